"""Names that people see: suggestions for misspelled ones, and ones that fit."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown ``name``: the nearest known one, or all of them, if not too many."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {join_few(names) if len(names) > 40 else ', '.join(names)}"


def elide(name: str, length: int = 24) -> str:
    """A name to show, no longer than ``length``: what is too much is left out of its middle."""
    text = printable(name)
    if len(text) <= length:
        return text
    end = (length - 1) // 3
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def printable(path: str | Path) -> str:
    """The path as any terminal and file can hold it: control characters and bytes that are no UTF-8 are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def join_few(items: Iterable[object]) -> str:
    """At most five of the items, and how many more there are."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
