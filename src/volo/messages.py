"""Texts in messages: safe to print, suggestions for misspelled names, shortened names, lists of names."""

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

#: The end of a line that tells only where an error arose.
_SOURCE_PLACE = re.compile(r" (?:from|at) \S+:\d+:$")
#: Zero-width non-joiner and joiner, which some scripts and emoji need.
_JOINERS = "\u200c\u200d"

#: What :func:`normalized` removes from within a name (zero-width space, word joiner, byte order mark), and the spaces
#: that it replaces (no-break, narrow no-break and figure space).
_UNSEEN = {
    **dict.fromkeys(map(ord, "\u200b\u2060\ufeff")),
    **dict.fromkeys(map(ord, "\u00a0\u202f\u2007"), " "),
}
#: What it removes at the ends: spaces, soft hyphens, and characters that only join letters or direct the text.
_UNSEEN_ENDS = re.compile("^{0}|{0}$".format(r"[\s\u00ad\u200c-\u200f\u202a-\u202e\u2061-\u2069]+"))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown ``name``: the most similar known name, or the known names."""
    names = list(known)
    close = get_close_matches(name[:100], names, n=1, cutoff=0.5)
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


def printable(text: str | Path) -> str:
    """Return a text or path from elsewhere as text that is safe to print.

    Escaped are control characters (also those that steer a terminal), line breaks, characters that change the direction
    of the text or that are invisible, and bytes that are not UTF-8. Spaces of all widths and the joiners of emoji and
    of Persian and Indian scripts stay. Escaping a text twice changes nothing more.
    """
    text = os.fspath(text)
    with suppress(UnicodeEncodeError):
        # Python keeps the bytes of file names that are not text as surrogates, those of UTF-8 too in an ASCII locale.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(map(_printable_character, text))


def normalized(name: str) -> str:
    """Return the name of a class without differences that nobody can see.

    It gets Unicode's composed form (NFC), without spaces and invisible characters at its ends and zero-width spaces
    within it; no-break spaces become ordinary ones. Capitals and everything else that can be seen stay.
    """
    return _UNSEEN_ENDS.sub("", unicodedata.normalize("NFC", name.translate(_UNSEEN)))


def _printable_character(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return repr(character)[1:-1]


def quoted(path: str | Path) -> str:
    """Return a path as one word of a command that people can copy into a shell."""
    return shlex.quote(os.fspath(path))


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message that says something, or the error's type if there is none."""
    lines = (line.strip() for line in str(error).splitlines())
    # OpenVINO's messages begin with places in its source code.
    return next((line for line in lines if line and not _SOURCE_PLACE.search(line)), type(error).__name__)


def join_few(items: Iterable[object]) -> str:
    """Join at most five items with commas, and append the number of the others."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
