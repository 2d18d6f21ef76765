"""CSV files that a spreadsheet opens without computing what is in them.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. Names of classes and of files
may come from strangers, so such a name gets a leading apostrophe, which :func:`original_text` takes away again, and
such a path a leading ``./``, which names the same file. Numbers stay as they are.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from volo.messages import printable

#: The beginning of a text that a spreadsheet would compute, or of one that :func:`text_cell` has changed.
_FORMULA = re.compile(r"'*[=+\-@]")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header row and rows, in UTF-8.

    Args:
        path: of the file.
        columns: names of the columns.
        rows: the cells of each row. Text is made safe with :func:`text_cell`; a path must be made one before, with
            :func:`path_cell`.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for row in chain([columns], rows):
            writer.writerow([text_cell(cell) if isinstance(cell, str) else cell for cell in row])


def text_cell(text: str) -> str:
    """Return a name as a cell: an apostrophe before what looks like a formula, unprintable characters escaped."""
    text = printable(text)
    return f"'{text}" if _FORMULA.match(text) else text


def path_cell(path: str) -> str:
    """Return a path as a cell: ``./`` before a relative path that looks like a formula."""
    return f"./{path}" if path[:1] in ("=", "+", "-", "@") else path


def original_text(cell: str) -> str:
    """Return the name that :func:`text_cell` made the cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
