"""All text of the command line goes out with what could steer a terminal escaped."""

import sys
import warnings

import pytest
from rich.table import Table

from volo.cli import main
from volo.cli.ui.terminal import Console, note, prepare_streams, say, warn

EVIL = "\x1b]0;owned\x07cat\u202e"
SAFE = r"\x1b]0;owned\x07cat\u202e"


def by_table(text):
    table = Table(title=text, caption=text)
    table.add_column(text, footer=text)
    table.add_row(text)
    Console().print(table)


def by_warning(text):
    prepare_streams()
    sys.stderr.write(warnings.formatwarning(text, UserWarning, "file.py", 1))


@pytest.mark.parametrize(
    "write", [say, note, warn, lambda text: Console().print(text, soft_wrap=True), by_table, by_warning]
)
def test_every_way_out_escapes(write, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    write(EVIL)
    out, err = capsys.readouterr()
    assert SAFE in out + err
    assert not set(out + err) & {"\x1b", "\x07", "\u202e"}


def test_the_line_of_an_error_escapes(capsys):
    assert main(["weights", "inspect", EVIL]) == 2
    err = capsys.readouterr().err
    assert SAFE in err
    assert "\x1b" not in err
