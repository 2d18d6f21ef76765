"""Saving of matplotlib figures. Needs the extra ``volo[train]``."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

from volo.files import atomic_write


def save_figure(figure: Figure, path: Path, *, dpi: int = 120) -> None:
    """Write a figure as a PNG file, completely or not at all.

    Characters that the font of the figure does not have are drawn in other fonts of this machine. If none has them,
    they are boxes, and a warning says so.
    """
    with atomic_write(path) as temporary:
        with _missing_characters() as missing:
            figure.savefig(temporary, dpi=dpi, format="png")
        if not missing:
            return
        families = _families_with(missing)
        if families:
            for text in figure.findobj(Text):
                text.set_fontfamily([*text.get_fontfamily(), *families])
            with _missing_characters() as missing:
                figure.savefig(temporary, dpi=dpi, format="png")
    if missing:
        _warn_of_boxes()


@cache
def _warn_of_boxes() -> None:
    """Warn once, since a run draws several pictures with the same names."""
    warnings.warn(
        "no font on this machine has some characters of the names in the pictures, which are drawn as boxes; a font "
        "such as Noto Sans CJK would have them",
        stacklevel=2,
    )


@contextmanager
def _missing_characters() -> Iterator[set[int]]:
    """Collect the characters of which matplotlib warns, as code points; other warnings are passed on."""
    missing: set[int] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield missing
    for warning in caught:
        if match := re.match(r"Glyph (\d+) .* missing from font", str(warning.message)):
            missing.add(int(match[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _families_with(characters: set[int]) -> list[str]:
    """Return families of fonts that have as many of these characters as the fonts of this machine have."""
    families, missing = [], set(characters)
    for font in fontManager.ttflist:
        if not missing:
            break
        if font.name.startswith("Last Resort"):  # it has a box for every character
            continue
        try:
            found = missing & get_font(font.fname).get_charmap().keys()
        except (OSError, RuntimeError):  # fonts are listed in a cache: this one has gone, or is damaged
            continue
        if found:
            families.append(font.name)
            missing -= found
    return families
