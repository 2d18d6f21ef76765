"""The classes of masks: names, colors, and which values in a file stand for them."""

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

#: The index of pixels that count for nothing; and the word for them in a file of classes.
IGNORE, IGNORE_NAME = 255, "ignore"


#: The largest value that a mask holds: those of 16 bits.
_MOST = 65535

_LINE = re.compile(
    r"(?:(?P<value>\d+)\s*:\s*)?(?P<name>.+?)(?:[\s,;]+(?P<color>#[0-9a-fA-F]{6}|\d{1,3}(?:[\s,]+\d{1,3}){2}))?"
)


@dataclass(frozen=True)
class MaskLine:
    """One line of a file of classes: what one value, and one color, of a mask stands for."""

    value: int
    name: str
    color: Color | None = None


@dataclass(frozen=True)
class MaskClasses:
    """What the values of masks stand for. Lines of one name are one class; ``ignore`` is none.

    The value 255 is ignored where no line has it.

    Raises:
        ValueError: a value comes twice or has more than 16 bits, a name cannot be one, or there are not 2 to 255
            classes.
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
            raise ValueError(
                f"two lines are for the value {join_few(twice)}; every value of a mask stands for one class"
            )
        if max(values) > _MOST:
            raise ValueError(f"the largest value of a mask is {_MOST}, not {max(values)}")

    @classmethod
    def named(cls, names: Sequence[str], colors: Sequence[Color] = ()) -> "MaskClasses":
        """Classes whose values are 0, 1, 2 …, with these colors or the default ones."""
        return cls(tuple(MaskLine(i, name, colors[i] if colors else None) for i, name in enumerate(names)))

    def renumbered(self) -> "MaskClasses":
        """The same classes where masks hold their indices."""
        return self.named(self.names, self.colors)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """In the order of their indices: the order in which the lines name them first."""
        return tuple(dict.fromkeys(line.name for line in self.lines if line.name != IGNORE_NAME))

    @cached_property
    def colors(self) -> tuple[Color, ...]:
        """To show each class in: the first that a line gives it, or a default one."""
        given: dict[str, Color] = {}
        for line in self.lines:
            if line.color is not None and line.name != IGNORE_NAME:
                given.setdefault(line.name, line.color)
        taken = set(given.values())
        free = (color for color in distinct_colors() if color not in taken)
        return tuple(given[name] if name in given else next(free) for name in self.names)

    @cached_property
    def values(self) -> Mapping[int, int]:
        """Value in a mask → index of its class, or ``IGNORE``."""
        return {IGNORE: IGNORE} | {line.value: self._index(line) for line in self.lines}

    @cached_property
    def codes(self) -> Mapping[Color, int]:
        """Color in a mask that is a color picture → index of its class, or ``IGNORE``.

        Raises:
            ValueError: a class has no color of its own.
        """
        codes: dict[Color, int] = {}
        for line in self.lines:
            if line.color is not None and codes.setdefault(line.color, self._index(line)) != self._index(line):
                raise ValueError(f"masks cannot be converted by colors: two classes have {hex_color(line.color)}")
        without = [name for name in self.names if self.names.index(name) not in codes.values()]
        if without:
            raise ValueError(
                f"masks cannot be converted by colors: {join_few(without)} has none; write '{without[0]} #rrggbb' "
                "into the file of classes"
            )
        return codes

    def _index(self, line: MaskLine) -> int:
        return IGNORE if line.name == IGNORE_NAME else self.names.index(line.name)

    @cached_property
    def lookup(self) -> np.ndarray:
        """(65537,) int16: the index of every value, -1 where it stands for nothing, as it is in the last entry."""
        table = np.full(_MOST + 2, -1, np.int16)
        table[list(self.values)] = list(self.values.values())
        return table


def read_classes(path: Path) -> MaskClasses:
    """Read a file of classes: UTF-8, a line for every value of the masks.

    A line is ``name``, ``name #rrggbb`` or ``name 128 0 64``, after ``7:`` for the value 7; without it the value is one
    more than that of the line above, and 0 in the first. Empty lines and those that begin with # are passed over.

    Raises:
        ValueError: it cannot be read so; the message names the line.
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
    """The classes of a public data set: ``ade20k``, ``camvid`` or ``cityscapes``."""
    return read_classes(Path(str(files("volo") / "data/segmentation/class_lists" / f"{name}.txt")))
