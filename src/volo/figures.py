"""Saving of matplotlib figures. Needs the extra ``volo[train]``."""

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from volo.files import atomic_write


def save_figure(figure: Figure, path: Path, *, dpi: int = 120) -> None:
    """Write a figure as a PNG file, completely or not at all."""
    with atomic_write(path) as temporary, warnings.catch_warnings():
        # Characters that the font does not have are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, dpi=dpi, format="png")
