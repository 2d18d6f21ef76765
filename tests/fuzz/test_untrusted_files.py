"""Damaged files of every kind give a documented error or are read; no other exception, no hang, no exhausted memory."""

import json
import shutil

import pytest
from processes import run_apart
from untrusted import DOORS, SECONDS, make_files, read_damaged


@pytest.fixture(scope="session")
def valid_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid") / "files"
    make_files(folder)
    return folder


@pytest.mark.parametrize(("seed", "count"), [(0, 300), pytest.param(1, 5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", DOORS)
def test_damaged_files_give_documented_errors(valid_files, tmp_path, name, seed, count):
    folder = tmp_path / "files"
    shutil.copytree(valid_files, folder)
    code = run_apart(read_damaged, name, seed, range(count), folder, timeout=SECONDS + count)
    if code != 0:
        number, printed = (folder / "progress.txt").read_text(), (folder / "errors.txt").read_text()
        raise AssertionError(f"{name}, seed {seed}, number {number} ends the process, or it never ends: {printed}")
    report = json.loads((folder / "report.json").read_text())
    wrong = [f"{name}, seed {seed}, number {number}: {what}" for number, what in report["wrong"]]
    assert not wrong, "\n".join(wrong)
    assert report["ends"].keys() != {"read"}, "no file was damaged"
