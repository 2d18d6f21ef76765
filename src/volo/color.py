"""Colors of classes: parsed, written, and chosen to be easy to tell apart."""

import colorsys
import re
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any

#: Red, green and blue, 0–255.
Color = tuple[int, int, int]


def parse_color(text: str) -> Color:
    """``#rrggbb``, or three numbers, 0–255.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) != 3 or max(numbers) > 255:
        raise ValueError(f"a color is #rrggbb or three numbers from 0 to 255, not {text!r}")
    return numbers[0], numbers[1], numbers[2]


def hex_color(color: Color) -> str:
    """``#rrggbb``."""
    return f"#{bytes(color).hex()}"


def stored_colors(described: Mapping[str, Any]) -> Any:
    """Return the entry ``class_colors`` of a description; early files spell it ``class_colours``.

    Raises:
        KeyError: there is neither.
    """
    return described["class_colours"] if "class_colours" in described else described["class_colors"]


def default_colors(classes: int) -> tuple[Color, ...]:
    """Colors that are easy to tell apart, the first ones most of all."""
    return tuple(islice(distinct_colors(), classes))


def distinct_colors() -> Iterator[Color]:
    """Hues a golden section of the circle apart, each in three kinds of strength, with the hue a little moved."""
    for number in count():
        turn, kind = divmod(number, 3)
        saturation, brightness = ((0.75, 0.95), (0.9, 0.55), (0.4, 1.0))[kind]
        red, green, blue = colorsys.hsv_to_rgb((turn * 0.618034 + kind * 0.4) % 1.0, saturation, brightness)
        yield round(255 * red), round(255 * green), round(255 * blue)
