"""Files that look like images but are not read: noted where files are listed, reported once."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from volo.messages import printable

#: File → the reason why it is not read and what would read it, as it follows a number of files: ".heic (…)".
Skipped = Mapping[Path, str]

_collected: ContextVar[dict[Path, str] | None] = ContextVar("collected", default=None)


@contextmanager
def collect_skipped() -> Iterator[Skipped]:
    """Collect the files that are skipped while the block runs, instead of a warning for each listing.

    Returns:
        The files so far; a file that is listed several times counts once.
    """
    files: dict[Path, str] = {}
    token = _collected.set(files)
    try:
        yield files
    finally:
        _collected.reset(token)


def note_skipped(files: Skipped) -> None:
    """Note files that are not read: add them to those of :func:`collect_skipped`, or else print a warning."""
    collected = _collected.get()
    if collected is not None:
        collected.update(files)
    elif files:
        warnings.warn(describe_skipped(files), stacklevel=2)


def describe_skipped(files: Skipped) -> str:
    """Return one line: the number of files, the reasons, and the first file. There must be one."""
    count = f"{len(files):,} files" if len(files) > 1 else "1 file"
    first = f"{'the first: ' if len(files) > 1 else ''}{printable(next(iter(files)))}"
    return f"{count} skipped: {_reasons(files)}; {first}"


def only_skipped(files: Skipped) -> str:
    """Return the end of an error message about a place without images; empty if no files were skipped there."""
    return f", only {_reasons(files)}" if files else ""


def _reasons(files: Skipped) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(files.values()).most_common())
