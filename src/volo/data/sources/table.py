"""Tables of images: CSV or TSV files with the path and the label of one image per row, optionally its split."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from volo.data.images import FileImages
from volo.data.splits import SPLIT_ALIASES, UNSPLIT, Splits
from volo.messages import join_few, nearest, printable

#: File extensions of tables.
TABLE_EXTENSIONS = (".csv", ".tsv", ".tab")

#: Names of columns that are looked for if the user names none; upper and lower case do not matter.
USUAL_COLUMNS = {
    "image_column": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img"),
    "label_column": ("label", "class", "class_name", "category", "target"),
    "split_column": ("split", "part", "subset", "set"),
}

_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One image of a table.

    Attributes:
        line: line number in the file, from 1.
        path: of the image. A relative path in the table is joined to the table's folder.
        label: name of the class.
        split: a key of ``SPLIT_ALIASES``, or ``UNSPLIT`` if the table has no split column.
    """

    line: int
    path: Path
    label: str
    split: str


def table_splits(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> Splits:
    """Return the splits of a table by its split column, or the whole table if it has no such column.

    Classes are the labels in alphabetical order, even if they are numbers.

    Args:
        path: as for :func:`read_table`.
        image_column: as for :func:`read_table`.
        label_column: as for :func:`read_table`.
        split_column: as for :func:`read_table`.

    Raises:
        ValueError: The table is not valid (see :func:`read_table`), or none of its files exists.
    """
    rows = read_table(path, image_column=image_column, label_column=label_column, split_column=split_column)
    if not any(row.path.exists() for row in rows):
        raise ValueError(
            f"none of the {len(rows)} files in {path} exist, the first is {printable(rows[0].path)}; "
            "paths must be relative to the table's folder, or absolute"
        )
    splits = [split for split in (*SPLIT_ALIASES, UNSPLIT) if any(row.split == split for row in rows)]
    return {split: partial(_images, [row for row in rows if row.split == split]) for split in splits}


def read_table(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> list[Row]:
    """Read and check the rows of a table.

    Args:
        path: of a UTF-8 file with the names of the columns in its first line. Cells are separated by commas, semicolons
            or tabs: by the one that is most frequent in the first line.
        image_column: name of the column of paths; None takes the first of ``USUAL_COLUMNS`` in the table.
        label_column: name of the column of class names; None takes the first of ``USUAL_COLUMNS`` in the table.
        split_column: name of the column with train, val or test; None takes the first of ``USUAL_COLUMNS`` in the
            table, if there is one.

    Raises:
        ValueError: The file is not UTF-8 or has no rows, a column is missing, a cell is empty, a split is unknown, or a
            path occurs twice. The message contains the line numbers.
    """
    header, lines = _read_cells(path)
    columns = [
        _column(path, header, "image_column", image_column),
        _column(path, header, "label_column", label_column),
        _column(path, header, "split_column", split_column),
    ]
    if not lines:
        raise ValueError(f"{path} has no rows below its first line, which names the columns")
    rows = [_row(path, line, cells, header, columns) for line, cells in lines]
    _check_paths_differ(path, rows)
    return rows


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the cells of the first line, and (line number, cells) of every other line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8"
        ) from None
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(f"{path} is not a table: line {reader.line_num}: {error}") from None
    return (lines[0][1], lines[1:]) if lines else ([], [])


def _column(path: Path, header: Sequence[str], option: str, column: str | None) -> int | None:
    """Return the index of a column by its name, or by the usual names; None if the table has no split column."""
    names = [name.strip() for name in header]
    if column is not None:
        if column not in names:
            raise ValueError(f"{path} has no column {column!r}{nearest(column, names)}")
        return names.index(column)
    lower = [name.lower() for name in names]
    found = next((lower.index(usual) for usual in USUAL_COLUMNS[option] if usual in lower), None)
    if found is None and option != "split_column":
        raise ValueError(
            f"{path} has no column named {' or '.join(USUAL_COLUMNS[option][:2])}, its first line has: "
            f"{join_few(names) if names else 'nothing'}; set the right one with --{option.replace('_', '-')} "
            f"(volo train: --data.{option.replace('_', '-')})"
        )
    return found


def _row(path: Path, line: int, cells: Sequence[str], header: Sequence[str], columns: Sequence[int | None]) -> Row:
    if len(cells) != len(header):
        raise ValueError(
            f"line {line} of {path} has {len(cells)} cells, its first line {len(header)}; "
            "put names with commas in them between double quotes"
        )
    image, label, split = ("" if column is None else cells[column].strip() for column in columns)
    if not image or not label:
        raise ValueError(f"line {line} of {path} has no {'label' if image else 'image'}; fill it in or remove the line")
    return Row(line, path.parent / image, label, UNSPLIT if columns[2] is None else _split(path, line, split))


def _split(path: Path, line: int, word: str) -> str:
    for split, words in SPLIT_ALIASES.items():
        if word.lower() in words:
            return split
    known = [word for words in SPLIT_ALIASES.values() for word in words]
    raise ValueError(f"line {line} of {path} names an unknown split {word!r}{nearest(word, known)}")


def _check_paths_differ(path: Path, rows: Sequence[Row]) -> None:
    """Check that no file has two rows, even if its folder is reached by two paths. Links to files are not resolved.

    Raises:
        ValueError: A file has two rows.
    """
    folders: dict[Path, str] = {}
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:
        folder = row.path.parent
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        first = seen.setdefault((folders[folder], row.path.name), row)
        if first is not row:
            same = (
                printable(row.path)
                if row.path == first.path
                else f"{printable(first.path)}, as {printable(row.path)} too,"
            )
            raise ValueError(f"{path} names {same} twice, on lines {first.line} and {row.line}; remove one")


def _images(rows: Sequence[Row]) -> FileImages:
    class_names = tuple(sorted({row.label for row in rows}))
    index = {name: number for number, name in enumerate(class_names)}
    return FileImages([row.path for row in rows], [index[row.label] for row in rows], class_names)
