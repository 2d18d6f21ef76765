"""Contact sheets: many thumbnails on one picture, each with its name, to see a class at a glance."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

#: Side of a thumbnail, pixels.
THUMBNAIL = 112

#: Thumbnails in a row.
COLUMNS = 8

#: Gap between thumbnails, height of a line of text and height of the title, pixels.
_GAP, _LINE, _TITLE = 8, 14, 28


class Tile(NamedTuple):
    """One thumbnail and the text below it.

    Attributes:
        thumbnail: at most ``THUMBNAIL`` pixels wide and high; None draws a box with the word "unreadable".
        lines: the lines of text.
    """

    thumbnail: Image.Image | None
    lines: tuple[str, ...]


def contact_sheet(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """Draw the tiles in rows below a title, as an ``RGB`` picture."""
    columns, rows = min(COLUMNS, max(4, len(tiles))), -(-len(tiles) // COLUMNS)
    step_x, step_y = THUMBNAIL + _GAP, THUMBNAIL + _GAP + _LINE * max((len(tile.lines) for tile in tiles), default=0)
    sheet = Image.new("RGB", (_GAP + columns * step_x, _TITLE + rows * step_y + _GAP), "white")
    draw, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(11)
    draw.text((_GAP, 6), _shorten(draw, title, large, sheet.width - 2 * _GAP), "black", large)
    for number, (thumbnail, lines) in enumerate(tiles):
        left, top = _GAP + number % COLUMNS * step_x, _TITLE + number // COLUMNS * step_y + _GAP
        if thumbnail is None:
            draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), "lightgray")
            draw.text((left + 24, top + THUMBNAIL // 2 - 6), "unreadable", "red", small)
        else:
            corner = (left + (THUMBNAIL - thumbnail.width) // 2, top + (THUMBNAIL - thumbnail.height) // 2)
            sheet.paste(thumbnail.convert("RGB"), corner)
        for place, line in enumerate(lines):
            below = top + THUMBNAIL + 1 + place * _LINE
            draw.text((left, below), _shorten(draw, line, small, THUMBNAIL), "black", small)
    return sheet


def thumbnail_of(image: Image.Image) -> Image.Image:
    """Return the picture resized so that its longer side has ``THUMBNAIL`` pixels.

    A picture that grows at least twofold is enlarged without smoothing; any other is resampled with the Lanczos filter.
    """
    scale = THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS, reducing_gap=2.0)


def _shorten(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    """Return the text; a text wider than ``width`` pixels gets an ellipsis in the place of its middle."""
    if draw.textlength(text, font) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and draw.textlength(f"{text[: kept // 2]}…{text[-(kept // 2) :]}", font) > width:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
