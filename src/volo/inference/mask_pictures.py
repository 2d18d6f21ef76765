"""Images of segmentations: masks with a palette, photos with class colors on them, legends."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from volo.data import Color
from volo.data.segmentation.overlay import overlay as tinted
from volo.messages import elide

#: Bounds of an overlay's longer side in pixels: larger images are reduced to fit a screen, smaller ones are enlarged.
LARGEST, SMALLEST = 2048, 320

#: Sizes in a legend, in pixels: font, height of a line, side of a color patch, margin.
_TEXT, _LINE, _SWATCH, _GAP = 13, 19, 13, 8


class Entry(NamedTuple):
    """A line of a legend; its text may stand without a color patch, marked by white."""

    color: Color
    text: str


def palette_picture(mask: np.ndarray, colors: Sequence[Color]) -> Image.Image:
    """Convert a mask (H, W) uint8 to an image of mode ``P`` with the class colors (0–255) as its palette."""
    picture = Image.fromarray(mask).convert("L")
    picture.putpalette(bytes(channel for color in colors for channel in color))
    return picture


def named_overlay(
    image: Image.Image,
    mask: np.ndarray,
    colors: Sequence[Color],
    names: Sequence[str],
    *,
    opacity: float = 0.5,
) -> Image.Image:
    """Draw the class colors on a photo, and beside it the names of its classes, the largest area first.

    Args:
        image: photo of any mode.
        mask: (H, W) uint8, class indices, at the image's size; pixels of ``IGNORE`` keep the photo's color.
        colors: color of each class, 0–255.
        names: name of each class.
        opacity: opacity of the colors, 0–1.

    Returns:
        An RGB image; the photo in it is resized so that its longer side is :data:`SMALLEST` to :data:`LARGEST` pixels.
    """
    photo, (small,) = shrunk(image, [mask], largest=LARGEST, smallest=SMALLEST)
    shown = tinted(photo, small, colors, opacity=opacity)
    pixels = np.bincount(mask.ravel(), minlength=256)
    order = sorted(np.flatnonzero(pixels[: len(names)]).tolist(), key=lambda index: -pixels[index])
    entries = [
        Entry(colors[index], f"{elide(names[index], 20)} {_percent(pixels[index] / mask.size)}") for index in order
    ]
    lines = max(1, (shown.height - _GAP) // _LINE)
    if len(entries) > lines:
        entries = [*entries[: lines - 1], Entry((255, 255, 255), f"and {len(entries) - lines + 1} more")]
    beside = _column(entries)
    whole = Image.new("RGB", (shown.width + beside.width, max(shown.height, beside.height)), "white")
    whole.paste(shown, (0, 0))
    whole.paste(beside, (shown.width, 0))
    return whole


def shrunk(
    image: Image.Image, masks: Sequence[np.ndarray], *, largest: int, smallest: int = 1
) -> tuple[Image.Image, list[np.ndarray]]:
    """Resize a photo and its masks for display, so that the longer side is ``smallest`` to ``largest`` pixels.

    Args:
        image: photo.
        masks: (H, W) uint8 each, at the photo's size.
        largest: maximum of the longer side.
        smallest: minimum of the longer side.
    """
    scale = min(max(max(image.size), smallest), largest) / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    # Class indices cannot be averaged, so each pixel of a small mask is one pixel of the large one.
    small = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    return image.resize(size, smooth, reducing_gap=2.0), small


def legend(names: Sequence[str], colors: Sequence[Color], *, rows: int = 32) -> Image.Image:
    """Draw color, index and name of each class, in columns of ``rows`` classes."""
    entries = [Entry(colors[index], f"{index}  {elide(name, 40)}") for index, name in enumerate(names)]
    columns = [_column(entries[start : start + rows]) for start in range(0, len(entries), rows)]
    whole = Image.new("RGB", (sum(column.width for column in columns), columns[0].height), "white")
    left = 0
    for column in columns:
        whole.paste(column, (left, 0))
        left += column.width
    return whole


def _column(entries: Sequence[Entry]) -> Image.Image:
    """Draw the entries below each other."""
    font = ImageFont.load_default(_TEXT)
    width = max((font.getlength(entry.text) for entry in entries), default=0)
    column = Image.new("RGB", (round(width) + _SWATCH + 3 * _GAP, len(entries) * _LINE + _GAP), "white")
    draw = ImageDraw.Draw(column)
    for number, entry in enumerate(entries):
        top = _GAP // 2 + number * _LINE + (_LINE - _SWATCH) // 2
        if entry.color != (255, 255, 255):
            draw.rectangle((_GAP, top, _GAP + _SWATCH, top + _SWATCH), entry.color, "dimgray")
        draw.text((2 * _GAP + _SWATCH, top - 2), entry.text, "black", font)
    return column


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"
