"""Colors of classes: parsing, writing, and a palette of distinct colors."""

import colorsys
import re
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any

#: Red, green and blue, 0–255.
Color = tuple[int, int, int]


def parse_color(text: str) -> Color:
    """Parse ``#rrggbb``, or three numbers from 0 to 255.

    Raises:
        ValueError: The text has another form.
    """
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) != 3 or max(numbers) > 255:
        raise ValueError(f"a color must be #rrggbb or three numbers from 0 to 255, not {text!r}")
    return numbers[0], numbers[1], numbers[2]


def hex_color(color: Color) -> str:
    """Return a color as ``#rrggbb``."""
    return f"#{bytes(color).hex()}"


def stored_colors(description: Mapping[str, Any]) -> Any:
    """Return the entry ``class_colors`` of a description; early files spell it ``class_colours``.

    Raises:
        KeyError: The description has neither entry.
    """
    return description["class_colours"] if "class_colours" in description else description["class_colors"]


def default_colors(classes: int) -> tuple[Color, ...]:
    """Return ``classes`` distinct colors; the first ones differ most."""
    return tuple(islice(distinct_colors(), classes))


def distinct_colors() -> Iterator[Color]:
    """Yield colors without end: hues in steps of the golden ratio, each step in three saturations and brightnesses.

    The three colors of a step also differ in hue.
    """
    for number in count():
        step, variant = divmod(number, 3)
        saturation, brightness = ((0.75, 0.95), (0.9, 0.55), (0.4, 1.0))[variant]
        red, green, blue = colorsys.hsv_to_rgb((step * 0.618034 + variant * 0.4) % 1.0, saturation, brightness)
        yield round(255 * red), round(255 * green), round(255 * blue)
