"""The classes of masks: their names, their colors and their values in mask files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np

from volo.color import Color, distinct_colors, hex_color, parse_color
from volo.data.images import check_class_names
from volo.messages import join_few, printable

#: The class index of ignored pixels, which neither train nor score a model, and the word for them in a classes file.
IGNORE, IGNORE_NAME = 255, "ignore"

#: The largest value in a mask, which has at most 16 bits.
_MAX_VALUE = 65535

_LINE = re.compile(
    r"(?:(?P<value>\d+)\s*:\s*)?(?P<name>.+?)(?:[\s,;]+(?P<color>#[0-9a-fA-F]{6}|\d{1,3}(?:[\s,]+\d{1,3}){2}))?"
)


@dataclass(frozen=True)
class MaskLine:
    """One line of a classes file.

    Attributes:
        value: of the class in masks of values.
        name: of the class, or ``ignore``.
        color: of the class in masks of colors; None if the line has none.
    """

    value: int
    name: str
    color: Color | None = None


@dataclass(frozen=True)
class MaskClasses:
    """The classes of masks, with their values and colors in mask files.

    Lines with the same name form one class. Pixels of lines named ``ignore`` belong to no class. The value 255 is
    ignored too, unless a line has it.

    Attributes:
        lines: of the classes file.

    Raises:
        ValueError: Two lines have the same value, a value has more than 16 bits, a name cannot be written in one line
            of text, or the number of classes is not 2 to 255.
    """

    lines: tuple[MaskLine, ...]

    def __post_init__(self) -> None:
        check_class_names(self.names)
        if not 2 <= len(self.names) <= IGNORE:
            raise ValueError(
                f"2 to {IGNORE} classes are needed, not {len(self.names)}: {join_few(self.names) or 'none'}"
            )
        values = [line.value for line in self.lines]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"two lines have the value {join_few(twice)}; every value of a mask must have one class")
        if max(values) > _MAX_VALUE:
            raise ValueError(f"the largest value of a mask is {_MAX_VALUE}, not {max(values)}")

    @classmethod
    def named(cls, names: Sequence[str], colors: Sequence[Color] = ()) -> "MaskClasses":
        """Create classes with the values 0, 1, 2 … and with these colors, or with the default ones."""
        return cls(tuple(MaskLine(i, name, colors[i] if colors else None) for i, name in enumerate(names)))

    def renumbered(self) -> "MaskClasses":
        """Return the same classes for masks that hold class indices instead of the original values."""
        return self.named(self.names, self.colors)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices, which is the order of their first lines."""
        return tuple(dict.fromkeys(line.name for line in self.lines if line.name != IGNORE_NAME))

    @cached_property
    def colors(self) -> tuple[Color, ...]:
        """Color of every class in pictures: the first in its lines, else an unused default color."""
        chosen: dict[str, Color] = {}
        for line in self.lines:
            if line.color is not None and line.name != IGNORE_NAME:
                chosen.setdefault(line.name, line.color)
        used = set(chosen.values())
        unused = (color for color in distinct_colors() if color not in used)
        return tuple(chosen[name] if name in chosen else next(unused) for name in self.names)

    @cached_property
    def values(self) -> Mapping[int, int]:
        """Mapping: value in a mask → index of its class, or ``IGNORE``."""
        return {IGNORE: IGNORE} | {line.value: self._index(line) for line in self.lines}

    @cached_property
    def codes(self) -> Mapping[Color, int]:
        """Mapping: color in a mask of colors → index of its class, or ``IGNORE``.

        Raises:
            ValueError: A class has no color, or two classes have the same color.
        """
        codes: dict[Color, int] = {}
        for line in self.lines:
            if line.color is not None and codes.setdefault(line.color, self._index(line)) != self._index(line):
                raise ValueError(f"masks cannot be read by colors: two classes have the color {hex_color(line.color)}")
        without = [name for name in self.names if self.names.index(name) not in codes.values()]
        if without:
            raise ValueError(
                f"masks cannot be read by colors: no color is given for {join_few(without)}; write "
                f"'{without[0]} #rrggbb' into the classes file"
            )
        return codes

    def _index(self, line: MaskLine) -> int:
        return IGNORE if line.name == IGNORE_NAME else self.names.index(line.name)

    @cached_property
    def lookup(self) -> np.ndarray:
        """Array (65537,) int16: class index of every value, -1 for values without a class and in the last entry."""
        table = np.full(_MAX_VALUE + 2, -1, np.int16)
        table[list(self.values)] = list(self.values.values())
        return table


def read_classes(path: Path) -> MaskClasses:
    """Read a classes file: UTF-8 text with one line for every value of the masks.

    A line is ``name``, ``name #rrggbb`` or ``name 128 0 64``. The value may precede it, as in ``7: name``; without it,
    the value is that of the line above plus 1, and 0 in the first line. Empty lines and lines that begin with # are
    skipped.

    Raises:
        ValueError: The file is not valid. The message contains the number of the line at fault, if there is one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{printable(path)} is not UTF-8; save it as UTF-8") from None
    lines: list[MaskLine] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        try:
            assert match is not None, "every line that is not empty has a name"
            color = None if match["color"] is None else parse_color(match["color"])
            following = lines[-1].value + 1 if lines else 0
            lines.append(MaskLine(int(match["value"] or following), match["name"], color))
        except ValueError as error:
            raise ValueError(f"line {number} of {printable(path)}: {error}") from None
    try:
        return MaskClasses(tuple(lines))
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None


def known_classes(name: str) -> MaskClasses:
    """Return the classes of a public data set: ``ade20k``, ``camvid`` or ``cityscapes``."""
    return read_classes(Path(str(files("volo") / "data/segmentation/class_lists" / f"{name}.txt")))
