"""Tables of images: a CSV or TSV file with a row for each image, its path and its label, maybe its part."""

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

#: Endings of files that are taken for tables.
TABLE_EXTENSIONS = (".csv", ".tsv", ".tab")

#: What a column is called where nobody says; capitals do not matter.
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
        line: of the file, counted from 1.
        path: relative ones are relative to the table's folder and have it before them.
        label: the name of the class.
        part: a key of ``PART_WORDS``, or ``WHOLE`` where the table has no such column.
    """

    line: int
    path: Path
    label: str
    part: str


def table_parts(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> Splits:
    """The parts of a table by its split column; the whole where it has none.

    Classes are the labels in alphabetical order, numbers too.

    Args:
        path: a file as :func:`read_table` wants it.
        image_column: see there.
        label_column: see there.
        split_column: see there.

    Raises:
        ValueError: as :func:`read_table`; or not one of the files exists.
    """
    rows = read_table(path, image_column=image_column, label_column=label_column, split_column=split_column)
    if not any(row.path.exists() for row in rows):
        raise ValueError(
            f"none of the {len(rows)} files in {path} exist, the first is {printable(rows[0].path)}; "
            "paths must be relative to the table's folder, or absolute"
        )
    parts = [part for part in (*SPLIT_ALIASES, UNSPLIT) if any(row.part == part for row in rows)]
    return {part: partial(_images, [row for row in rows if row.part == part]) for part in parts}


def read_table(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> list[Row]:
    """The rows of a table, checked.

    Args:
        path: UTF-8, the names of the columns in its first line; cells are parted by commas, semicolons or tabs,
            whichever the first line has most of.
        image_column: the column of paths; None takes the first of ``USUAL_COLUMNS`` that is there.
        label_column: the column of class names, likewise.
        split_column: the column that says train, val or test; None takes a usual one, or goes without.

    Raises:
        ValueError: no UTF-8, a column that is missing, no rows, cells that are empty or unknown, or a path that is
            there twice; the message names the lines.
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
    """The first line's cells, and those of every other line that is not empty, with its number."""
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
        raise ValueError(f"{path} is no table: line {reader.line_num}: {error}") from None
    return (lines[0][1], lines[1:]) if lines else ([], [])


def _column(path: Path, header: Sequence[str], option: str, wanted: str | None) -> int | None:
    """The place of a column; None where the table has no split column."""
    names = [name.strip() for name in header]
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"{path} has no column {wanted!r}{nearest(wanted, names)}")
        return names.index(wanted)
    lower = [name.lower() for name in names]
    found = next((lower.index(usual) for usual in USUAL_COLUMNS[option] if usual in lower), None)
    if found is None and option != "split_column":
        raise ValueError(
            f"{path} has no column named {' or '.join(USUAL_COLUMNS[option][:2])}, its first line has: "
            f"{join_few(names) if names else 'nothing'}; name the right one with --{option} (in training "
            f"--data.{option})"
        )
    return found


def _row(path: Path, line: int, cells: Sequence[str], header: Sequence[str], columns: Sequence[int | None]) -> Row:
    if len(cells) != len(header):
        raise ValueError(
            f"line {line} of {path} has {len(cells)} cells, its first line {len(header)}; "
            "put names with commas in them between double quotes"
        )
    image, label, part = ("" if column is None else cells[column].strip() for column in columns)
    if not image or not label:
        raise ValueError(f"line {line} of {path} has no {'label' if image else 'image'}; fill it in or remove the line")
    return Row(line, path.parent / image, label, UNSPLIT if columns[2] is None else _part(path, line, part))


def _part(path: Path, line: int, word: str) -> str:
    for part, words in SPLIT_ALIASES.items():
        if word.lower() in words:
            return part
    known = [word for words in SPLIT_ALIASES.values() for word in words]
    raise ValueError(f"line {line} of {path} is for an unknown part {word!r}{nearest(word, known)}")


def _check_paths_differ(path: Path, rows: Sequence[Row]) -> None:
    """See that no file has two rows, under whatever names of its folder; links to single files are not followed."""
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
