"""Colors of classes: parsed, written, and chosen to be easy to tell apart."""

import colorsys
import re
from collections.abc import Iterator
from itertools import count, islice

#: Red, green and blue, 0–255.
Colour = tuple[int, int, int]


def parse_colour(text: str) -> Colour:
    """``#rrggbb``, or three numbers, 0–255.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) != 3 or max(numbers) > 255:
        raise ValueError(f"a colour is #rrggbb or three numbers from 0 to 255, not {text!r}")
    return numbers[0], numbers[1], numbers[2]


def hex_colour(colour: Colour) -> str:
    """``#rrggbb``."""
    return f"#{bytes(colour).hex()}"


def default_colours(classes: int) -> tuple[Colour, ...]:
    """Colours that are easy to tell apart, the first ones most of all."""
    return tuple(islice(distinct_colors(), classes))


def distinct_colors() -> Iterator[Colour]:
    """Hues a golden section of the circle apart, each in three kinds of strength, with the hue a little moved."""
    for number in count():
        turn, kind = divmod(number, 3)
        saturation, brightness = ((0.75, 0.95), (0.9, 0.55), (0.4, 1.0))[kind]
        red, green, blue = colorsys.hsv_to_rgb((turn * 0.618034 + kind * 0.4) % 1.0, saturation, brightness)
        yield round(255 * red), round(255 * green), round(255 * blue)
