"""Tables of images: CSV or TSV files with the path and the label of one image per row, optionally its split."""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from volo.csv_files import original_text
from volo.data.find import images_below, is_image
from volo.data.images import FileImages, is_lfs_pointer
from volo.data.splits import SPLIT_ALIASES, UNSPLIT, Splits, split_within
from volo.messages import join_few, nearest, normalized, printable
from volo.skipped import collect_skipped

#: File extensions of tables.
TABLE_EXTENSIONS = (".csv", ".tsv", ".tab")

#: Names of columns that are looked for if the user names none; upper and lower case do not matter.
USUAL_COLUMNS = {
    "image_column": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img"),
    "label_column": ("label", "class", "class_name", "category", "target"),
    "split_column": ("split", "part", "subset", "set", "is_valid", "is_val", "is_test", "is_train"),
}

_DELIMITERS = ",;\t"
#: Excel's first line that names the delimiter.
_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?[,;\t ]*(\r\n|\r|\n)')
#: The values of a column such as ``is_valid``.
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Row:
    """One image of a table.

    Attributes:
        line: line number in the file, from 1.
        written: path of the image as it stands in the table.
        path: of the image. A relative path in the table is joined to the table's folder.
        label: name of the class, :func:`volo.messages.normalized`.
        split: a key of ``SPLIT_ALIASES``, or ``UNSPLIT`` if the table has no split column.
    """

    line: int
    written: str
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
        ValueError: The table is not valid (see :func:`read_table`), none of its files exists, or some do not because
            they are written as they cannot be here: as addresses, paths of Windows, or without their endings.
    """
    rows = read_table(path, image_column=image_column, label_column=label_column, split_column=split_column)
    _check_files(path, rows)
    splits = [split for split in (*SPLIT_ALIASES, UNSPLIT) if any(row.split == split for row in rows)]
    return {split: partial(_images, [row for row in rows if row.split == split]) for split in splits}


def read_table(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> list[Row]:
    """Read and check the rows of a table.

    Args:
        path: of a UTF-8 file with the names of the columns in its first line. Cells are separated by commas, semicolons
            or tabs: by the one that is most frequent in the first line, or the one that Excel's line ``sep=;`` names.
        image_column: name of the column of paths; None takes the first of ``USUAL_COLUMNS`` in the table.
        label_column: name of the column of class names; None takes the first of ``USUAL_COLUMNS`` in the table.
        split_column: name of the column with train, val or test, or with True and False if a split is in its name
            (``is_valid``); None takes the first of ``USUAL_COLUMNS`` in the table, if there is one.

    Raises:
        ValueError: The file is not UTF-8 or has no rows, a column is missing or there twice, a cell is empty, a split
            is unknown, or a path occurs twice. The message contains the line numbers.
    """
    header, lines = _read_cells(path)
    if label_column is None and (classes := _one_hot_columns(header, lines)):
        raise ValueError(
            f"{path} has a column of 0 and 1 for each class ({join_few(classes)}), which is not supported; write one "
            "column label with the class of each image"
        )
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
    if is_lfs_pointer(path):
        raise ValueError(f"{path} is a Git LFS pointer instead of the table: run git lfs pull")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8"
        ) from None
    excel = _EXCEL_DELIMITER.match(text)
    if excel:
        text = text[excel.end(1) :].lstrip('",;\t ')  # an empty line stays: the others keep their numbers
    first = text.lstrip().partition("\n")[0]
    delimiter = excel[1] if excel else max(_DELIMITERS, key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(f"{path} is not a table: line {reader.line_num}: {error}") from None
    return (lines[0][1], lines[1:]) if lines else ([], [])


def _one_hot_columns(header: Sequence[str], lines: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return the names of the columns of 0 and 1, where a table has several of them and none for labels."""
    names = [name.strip() for name in header]
    if {name.lower() for name in names} & set(USUAL_COLUMNS["label_column"]):
        return []
    columns = zip(*(cells for _, cells in lines if len(cells) == len(names)), strict=True)
    found = [
        name for name, cells in zip(names, columns, strict=False) if {cell.strip() for cell in cells} <= {"0", "1"}
    ]
    return found if len(found) > 1 else []


def _column(path: Path, header: Sequence[str], option: str, column: str | None) -> int | None:
    """Return the index of a column by its name, or by the usual names; None if the table has no split column."""
    names = [name.strip() for name in header]
    if column is not None:
        if column not in names:
            raise ValueError(f"{path} has no column {column!r}{nearest(column, names)}")
        _check_once(path, column, names)
        return names.index(column)
    lower = [name.lower() for name in names]
    usual = [name for name in USUAL_COLUMNS[option] if name in lower]
    if not usual and option != "split_column":
        raise ValueError(
            f"{path} has no column named {' or '.join(USUAL_COLUMNS[option][:2])}, its first line has: "
            f"{join_few(names) if names else 'nothing'}; set the right one with --{option.replace('_', '-')} "
            f"(volo train: --data.{option.replace('_', '-')})"
        )
    if not usual:
        return None
    _check_once(path, usual[0], lower)
    if len(usual) > 1 and usual[0].startswith("is_"):
        raise ValueError(
            f"{path} has the columns {' and '.join(usual)}; write one column split with the words train, val and test"
        )
    return lower.index(usual[0])


def _check_once(path: Path, column: str, names: Sequence[str]) -> None:
    if names.count(column) > 1:
        raise ValueError(f"{path} has {names.count(column)} columns named {column!r}; rename all but one")


def _row(path: Path, line: int, cells: Sequence[str], header: Sequence[str], columns: Sequence[int | None]) -> Row:
    if len(cells) != len(header):
        raise ValueError(
            f"line {line} of {path} has {len(cells)} cells, its first line {len(header)}; "
            "put names with commas in them between double quotes"
        )
    image, label, split = ("" if column is None else cells[column].strip() for column in columns)
    label = normalized(original_text(label))
    if not image or not label:
        raise ValueError(f"line {line} of {path} has no {'label' if image else 'image'}; fill it in or remove the line")
    split = UNSPLIT if columns[2] is None else _split(path, line, split, header[columns[2]])
    return Row(line, image, path.parent / image, label, split)


def _split(path: Path, line: int, word: str, column: str) -> str:
    """Return the split that a cell names, or that a cell True or False says of a column such as ``is_valid``."""
    if split := split_within(word):
        return split
    truth, split = _TRUTH.get(word.lower()), split_within(column)
    if split and truth is not None:
        return split if truth else "val" if split == "train" else "train"
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
            advice = None if row.path.exists() else _advice(path, row)
            raise ValueError(
                f"{path} names {same} twice, on lines {first.line} and {row.line}; {advice or 'remove one'}"
            )


def _check_files(path: Path, rows: Sequence[Row]) -> None:
    """Check that a file exists, and that none is written in a way that cannot be right.

    Only files of which the path looks wrong are looked up: each would take a moment on a network.

    Raises:
        ValueError: No file exists, or some are written in a wrong way; the message tells how to write them.
    """
    strange = [row for row in rows if "\\" in row.written or "://" in row.written or not is_image(row.path.name)]
    wrong: Sequence[Row] = [row for row in strange if not row.path.exists()]
    advice = _advice(path, wrong[0]) if wrong else None
    if not advice:
        if any(row.path.exists() for row in rows):
            return
        wrong = rows
        advice = _advice(path, rows[0]) or "paths must be relative to the table's folder, or absolute"
    files = f"of the {len(rows):,} files in {path}"
    missing = f"none {files} exist" if len(wrong) == len(rows) else f"{len(wrong):,} {files} do not exist"
    raise ValueError(f"{missing}, the first is {printable(wrong[0].path)}; {advice}")


def _advice(path: Path, row: Row) -> str | None:
    """Return how to write the path of a file that does not exist, or None if that is not known."""
    written = row.written
    if "://" in written:
        return "addresses are not downloaded: download the images, and write their paths"
    if (path.parent / written.replace("\\", "/")).exists():
        return "write / in place of \\"
    if re.match(r"[A-Za-z]:[\\/]", written):
        return "these are paths of Windows: write them relative to the table's folder, with /"
    alone = not re.search(r"[\\/]", written)
    folder = path.parent if alone else row.path.parent
    with collect_skipped():  # a search is no reading
        images = images_below(folder) if folder.is_dir() else iter(())
        found = next((image for image in images if row.path.name == (image.name if alone else image.stem)), None)
    return None if found is None else f"write the {'folder' if alone else 'ending'}, too: {printable(found)} exists"


def _images(rows: Sequence[Row]) -> FileImages:
    class_names = tuple(sorted({row.label for row in rows}))
    index = {name: number for number, name in enumerate(class_names)}
    return FileImages([row.path for row in rows], [index[row.label] for row in rows], class_names)
