"""Class names as people give them: a file of them, or the names themselves; and doubts about those of images."""

import math
import re
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

from volo.messages import join_few, normalized

#: Words that programs write for a missing value, in lower case.
_MISSING = frozenset(("nan", "none", "null", "n/a", "na", "#n/a", "<na>", "#na", "nil", "undefined"))
#: Between several classes in one label.
_SEPARATORS = re.compile(r"\s*[|;,/+&]\s*")
#: Least number of classes that may be measurements.
_MANY = 10


def file_or_names(classes: str | tuple[str, ...]) -> Path | tuple[str, ...]:
    """Return the file that ``classes`` names, or the class names in it, as in ``cat,dog`` or ``[cat, dog]``.

    Raises:
        ValueError: There is no such file, and not two names or more.
    """
    if not isinstance(classes, str):
        return tuple(classes)
    if Path(classes).is_file():
        return Path(classes)
    names = tuple(name for part in classes.strip("[]").split(",") if (name := normalized(part)))
    if len(names) < 2:
        raise ValueError(
            f"there is no classes file {classes}; give a text file with a class in every line, or the names "
            "themselves: cat,dog"
        )
    return names


def find_classes(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Return the index of every name among the known ones, or None.

    Names that differ only in what :func:`volo.messages.normalized` removes are the same; old models may have such.
    """
    places = {normalized(name): index for index, name in enumerate(known)}
    places |= {name: index for index, name in enumerate(known)}
    return [places.get(name, places.get(normalized(name))) for name in names]


def doubtful_names(names: Sequence[str], images: int) -> list[str]:
    """Describe, in one line for each kind, class names that may not be meant as classes.

    Nothing is changed: the names differ for anyone who reads them, and each may be right.

    Args:
        names: the classes.
        images: number of images of all classes.
    """
    same = "if they are one class, give them one name"
    lines = [
        f"the classes {join_few(map(repr, group))} {what}; {same}"
        for what, key in (("differ only in upper and lower case", str.casefold), ("are the same number", _number))
        for group in _alike(names, key)
    ]
    missing = [name for name in names if name.lower() in _MISSING]
    if missing:
        lines.append(
            f"{join_few(map(repr, missing))} may stand for missing labels, but count as classes; leave their images "
            "out, or rename the class"
        )
    known = set(names)
    several = [name for name in names if _names_several(name, known)]
    if several:
        lines.append(
            f"{join_few(map(repr, several))} may name several classes, but count as classes of their own; an image has "
            "one class, so choose one for each"
        )
    numbers = [number for name in names if (number := _number(name)) is not None]
    measured = any(number != int(number) for number in numbers) or images < 2 * len(names)
    if len(numbers) == len(names) >= _MANY and measured:
        lines.append(
            f"all {len(names):,} classes are numbers, such as {names[0]!r}; if they are measurements, put them into a "
            "few ranges and name these: volo predicts classes, not numbers"
        )
    return lines


def _alike(names: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """Return the groups of several names with the same key, which is not None."""
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for value, group in groups.items() if value is not None and len(group) > 1]


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _names_several(name: str, known: Container[str]) -> bool:
    """Return whether a label seems to be a list of classes: ``cat|dog``, ``['cat']``, or known classes in one."""
    parts = _SEPARATORS.split(name)
    return "|" in name or name.startswith(("['", '["')) or (len(parts) > 1 and all(part in known for part in parts))
