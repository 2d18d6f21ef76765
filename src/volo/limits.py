"""Limits of what descriptions of models hold; strangers write them, so they are checked before anything is built."""

import json
import reprlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

#: Longest side of an image for a model, and of one that is resized for it, in pixels.
LONGEST_SIDE = 16_384
#: Most classes of a model, and most characters of a class name.
MOST_OUTPUTS, LONGEST_NAME = 1_000_000, 1_000
#: Most channels of an image.
MOST_CHANNELS = 1_024

#: Most lists and dictionaries within each other in a file of settings.
_DEEPEST = 20

#: Largest value of a mask's pixel.
_LARGEST_IGNORED = 65_535

#: Range of ``crop_pct``: a smaller one would resize every image to a multiple of the model's size.
_CROP = (0.1, 10.0)
#: Range of mean and of std, which keeps normalized pixels far from the largest float32.
_MEAN, _STD = (-1e6, 1e6), (1e-6, 1e6)

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


def parse_json(text: str) -> Any:
    """Parse JSON that a stranger may have written.

    Raises:
        ValueError: The text is not JSON, or its lists and dictionaries are nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep") from None
    _check_nesting(value)
    return value


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object that a stranger may have written.

    Raises:
        ValueError: See :func:`parse_json`; or the text is another JSON value.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it must hold values by name, not {short_repr(value)}")
    return value


def _check_nesting(value: object) -> None:
    """Check that lists and dictionaries are nested at most so deeply that recursive functions can read them.

    Args:
        value: a tree of lists and dictionaries; no list or dictionary may be in it twice.

    Raises:
        ValueError: They are nested more deeply.
    """
    holders = [value]
    for _ in range(_DEEPEST):
        inner = (item.values() if isinstance(item, dict) else item for item in holders if isinstance(item, dict | list))
        holders = [item for items in inner for item in items if isinstance(item, dict | list)]
    if holders:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def is_number(value: object, low: float, high: float) -> bool:
    """Return whether a value is a number from ``low`` to ``high``; NaN, infinity and booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_count(value: object, most: int) -> bool:
    """Return whether a value is an integer from 1 to ``most``."""
    return isinstance(value, int) and is_number(value, 1, most)


def check_type(name: str, value: object, hint: Any) -> None:
    """Check that a value of a file is of the type that a dataclass declares for its field.

    Args:
        name: of the field.
        value: the value; tuples stand for lists.
        hint: ``int``, ``float``, ``bool``, ``str``, ``None``, a tuple, a ``Literal`` of texts, or a union of these.

    Raises:
        ValueError: It is of another type, or a number is not finite or too large.
    """
    if not _fits(value, hint):
        names = dict.fromkeys(_type_names(hint))
        raise ValueError(f"{name} must be {' or '.join(names)}, not {short_repr(value)}")


def _fits(value: object, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if kind is tuple:
        hints = inner[:1] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
        return isinstance(value, tuple) and len(value) == len(hints) and all(map(_fits, value, hints))
    if hint is float:
        return is_number(value, -sys.float_info.max, sys.float_info.max)
    if hint is int:
        return isinstance(value, int) and is_number(value, -(2**63), 2**64)
    return isinstance(value, str if kind is Literal else hint)


def _type_names(hint: Any) -> Iterator[str]:
    if get_origin(hint) in (Union, UnionType):
        for each in get_args(hint):
            yield from _type_names(each)
    else:
        names = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", NoneType: "null"}
        yield names.get(get_origin(hint) or hint, "a text")


def short_repr(value: object) -> str:
    """Return ``repr`` of a value for an error message, shortened: a file may hold megabytes, or deeply nested lists."""
    return _REPR.repr(value)


def check_preprocessing(fields: Mapping[str, Any]) -> None:
    """Check the numbers among the fields of :class:`volo.data.Preprocessing`; a field that is missing is not checked.

    Raises:
        ValueError: A number is not finite or out of range, or a field is of another type.
    """
    size, crop = fields.get("size", (1, 1)), fields.get("crop_pct", 1.0)
    if not _is_list(size) or len(size) != 2 or not all(is_count(side, LONGEST_SIDE) for side in size):
        raise ValueError(f"size must be a height and a width of 1 to {LONGEST_SIDE:,} pixels, not {short_repr(size)}")
    if not is_number(crop, *_CROP):
        raise ValueError(f"crop_pct must be a number from {_CROP[0]:g} to {_CROP[1]:g}, not {short_repr(crop)}")
    if max(size) / crop > LONGEST_SIDE:
        raise ValueError(
            f"size {tuple(size)} and crop_pct {crop} would resize images to more than {LONGEST_SIDE:,} pixels a side"
        )
    for name, limits in (("mean", _MEAN), ("std", _STD)):
        values = fields.get(name, (1.0,))
        few = _is_list(values) and 1 <= len(values) <= MOST_CHANNELS
        if not few or not all(is_number(value, *limits) for value in values):
            raise ValueError(
                f"{name} must be a number from {limits[0]:g} to {limits[1]:g} for each channel, "
                f"not {short_repr(values)}"
            )
    if "mean" in fields and "std" in fields and len(fields["mean"]) != len(fields["std"]):
        raise ValueError(
            f"mean and std must have a number for each channel, not {short_repr(fields['mean'])} and "
            f"{short_repr(fields['std'])}"
        )


def check_mask_settings(ignore_index: object, short_side: object) -> None:
    """Check two entries of the description of a segmentation model.

    Args:
        ignore_index: the mask value of pixels without a class.
        short_side: the length to which the shorter side of images is resized, or None.

    Raises:
        ValueError: One is of another type or out of range.
    """
    if not isinstance(ignore_index, int) or not is_number(ignore_index, 0, _LARGEST_IGNORED):
        raise ValueError(
            f"ignore_index must be an integer from 0 to {_LARGEST_IGNORED}, not {short_repr(ignore_index)}"
        )
    if short_side is not None and not is_count(short_side, LONGEST_SIDE):
        raise ValueError(f"short_side must be null or 1 to {LONGEST_SIDE:,} pixels, not {short_repr(short_side)}")


def check_names(names: object, count: int | None = None) -> tuple[str, ...]:
    """Return the class names of a description as a tuple.

    Control characters are allowed in them; they are escaped wherever names are printed.

    Args:
        names: a list or tuple of texts.
        count: the number of classes; None takes any number.

    Raises:
        ValueError: ``names`` is something else, or a name is too long or not valid Unicode text (a lone surrogate),
            which no file could store.
    """
    if not _is_list(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of texts, not {short_repr(names)}")
    if count is not None and len(names) != count:
        raise ValueError(f"class_names must be {count:,} names, one for each output, not {len(names):,}")
    if len(names) > MOST_OUTPUTS:
        raise ValueError(f"class_names must be at most {MOST_OUTPUTS:,} names, not {len(names):,}")
    for index, name in enumerate(names):
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the name of class {index} has {len(name):,} characters; {LONGEST_NAME:,} are allowed")
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"the name of class {index}, {short_repr(name)}, is not valid Unicode text; rename it"
            ) from None
    return tuple(names)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)
