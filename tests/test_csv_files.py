"""Cells that a spreadsheet does not compute, and the way back."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.csv_files import original_text, path_cell, text_cell, write_csv


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-dog", "'-dog"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'=x", "''=x"),
        ("cat", "cat"),
        ("it's", "it's"),
        ("'quoted'", "'quoted'"),
        ("0.5", "0.5"),
        ("a\u202eb", "a\\u202eb"),
        ("\x1b[2J", "\\x1b[2J"),
    ],
)
def test_names_become_safe_cells(name, cell):
    assert text_cell(name) == cell


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_a_name_comes_back(name):
    assert original_text(text_cell(name)) == name
    assert text_cell(name)[:1] not in ("=", "+", "-", "@")


@pytest.mark.parametrize(("path", "cell"), [("=x.jpg", "./=x.jpg"), ("-1/a.jpg", "./-1/a.jpg"), ("/=x", "/=x")])
def test_paths_name_the_same_file(path, cell):
    assert path_cell(path) == cell
    assert Path("folder", cell).parts == Path("folder", path).parts


def test_numbers_stay(tmp_path):
    write_csv(tmp_path / "t.csv", ["=name", "value"], [["=1", -0.5], [path_cell("@a"), -3]])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["'=name", "value"], ["'=1", "-0.5"], ["./@a", "-3"]]
