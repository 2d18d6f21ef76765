"""Names in messages: suggestions for misspelled names, shortened names, lists of names."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown ``name``: the most similar known name, or the known names."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; available: {join_few(names) if len(names) > 40 else ', '.join(names)}"


def elide(name: str, length: int = 24) -> str:
    """Shorten a name to at most ``length`` characters by replacing its middle with an ellipsis."""
    text = printable(name)
    if len(text) <= length:
        return text
    end = (length - 1) // 3
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def printable(path: str | Path) -> str:
    """Return a path as printable text: control characters and bytes that are not UTF-8 are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def join_few(items: Iterable[object]) -> str:
    """Join at most five items with commas, and append the number of the others."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
