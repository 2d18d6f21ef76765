"""Many small pictures on one, each with its name: a class at a glance."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

#: Side of a thumbnail, pixels.
THUMBNAIL = 112

#: Thumbnails in a row.
COLUMNS = 8

_GAP, _LINE, _TITLE = 8, 14, 28


class Tile(NamedTuple):
    """One thumbnail, at most ``THUMBNAIL`` wide and high, None where there is none to show, and what is below it."""

    thumbnail: Image.Image | None
    lines: tuple[str, ...]


def contact_sheet(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """The tiles in rows below a title."""
    columns, rows = min(COLUMNS, max(4, len(tiles))), -(-len(tiles) // COLUMNS)
    across, down = THUMBNAIL + _GAP, THUMBNAIL + _GAP + _LINE * max((len(tile.lines) for tile in tiles), default=0)
    sheet = Image.new("RGB", (_GAP + columns * across, _TITLE + rows * down + _GAP), "white")
    draw, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(11)
    draw.text((_GAP, 6), _fitted(draw, title, large, sheet.width - 2 * _GAP), "black", large)
    for number, (thumbnail, lines) in enumerate(tiles):
        left, top = _GAP + number % COLUMNS * across, _TITLE + number // COLUMNS * down + _GAP
        if thumbnail is None:
            draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), "lightgray")
            draw.text((left + 24, top + THUMBNAIL // 2 - 6), "unreadable", "red", small)
        else:
            corner = (left + (THUMBNAIL - thumbnail.width) // 2, top + (THUMBNAIL - thumbnail.height) // 2)
            sheet.paste(thumbnail.convert("RGB"), corner)
        for place, line in enumerate(lines):
            below = top + THUMBNAIL + 1 + place * _LINE
            draw.text((left, below), _fitted(draw, line, small, THUMBNAIL), "black", small)
    return sheet


def thumbnail_of(image: Image.Image) -> Image.Image:
    """The picture within a square of ``THUMBNAIL``; a small one is enlarged without smoothing."""
    scale = THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS, reducing_gap=2.0)


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    """The text, its middle left out where it is wider than ``width`` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and draw.textlength(f"{text[: kept // 2]}…{text[-(kept // 2) :]}", font) > width:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
