"""Names that people see: suggestions for misspelled ones, and ones that fit."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown ``name``: the nearest known one, or all of them."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}"


def shortened(name: str, length: int = 24) -> str:
    """A name to show: no longer than ``length``, its middle left out, and what cannot be shown replaced by �."""
    # Bytes of a file name that are no UTF-8 come as lone surrogates, which neither a terminal nor a picture takes.
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else "�" for character in shown)
    if len(shown) <= length:
        return shown
    end = (length - 1) // 3
    return f"{shown[: length - 1 - end]}…{shown[-end:]}"


def few(items: Iterable[object]) -> str:
    """At most five of the items, and how many more there are."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
