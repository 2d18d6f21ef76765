"""The help of every verb: options with dashes, short placeholders, defaults without types."""

import re
from argparse import SUPPRESS, Action
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import DefaultHelpFormatter

#: Type → its placeholder in the help, and its description in errors.
_TYPES: dict[Any, tuple[str, str]] = {
    int: ("N", "a whole number"),
    float: ("X", "a number"),
    bool: ("true|false", "true or false"),
}
#: Defaults that a reader need not be told.
_PLAIN_DEFAULTS: tuple[Any, ...] = (None, "", (), [], SUPPRESS)


class HelpFormatter(DefaultHelpFormatter):
    """Format help for people who read it in a terminal, not for those who know the types in the code."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _get_help_string(self, action: Action) -> str:
        # The texts of settings come from docstrings, where None is the word for a setting that is left out.
        text = re.sub(r"\bNone\b", "unset", (action.help or "").replace("``", "")).removesuffix(".")
        text = re.sub(r"--[\w.-]+", lambda match: dashed(match[0]), text)
        plain = action.default is False or action.default in _PLAIN_DEFAULTS
        if plain or "default" in text or not action.option_strings or action.nargs == 0:
            return text
        default = str(action.default).lower() if isinstance(action.default, bool) else _listed(action.default)
        return f"{text} (default: {default})".replace("%", "%%")

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        # jsonargparse adds an option NAME+, which appends to a list.
        names = ", ".join(dashed(option) for option in action.option_strings if not option.endswith("+"))
        return names if action.nargs == 0 else f"{names} {placeholder(action)}"


def _listed(value: Any) -> str:
    """Return a default as it is typed on the command line."""
    if isinstance(value, tuple | list):
        return f"[{','.join(f'{item:.3g}' if isinstance(item, float) else str(item) for item in value)}]"
    return str(value)


def dashed(option: str) -> str:
    """Return an option with dashes in the place of underscores: ``--data.val-fraction``."""
    return option.replace("_", "-")


def placeholder(action: Action) -> str:
    """Return the word that stands for the value of an option in the help."""
    if isinstance(action.metavar, str) and not action.metavar.startswith(("{", "[")):
        return action.metavar
    name = re.split(r"[._]", action.dest)[-1].upper()
    kinds = _kinds(action)
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return "|".join(map(str, get_args(kinds[0])))
    if kinds and all(get_origin(kind) in (tuple, list) for kind in kinds):
        return "[A,B]" if _length(kinds[0]) == 2 else "[A,B,…]"
    return _TYPES[kinds[0]][0] if len(kinds) == 1 and kinds[0] in _TYPES else name


def values(action: Action) -> list[str] | None:
    """Return the values of an option that takes one of a few words; None for any other."""
    kinds = _kinds(action)
    if kinds == (bool,):
        return ["true", "false"]
    return [str(value) for value in get_args(kinds[0])] if kinds and get_origin(kinds[0]) is Literal else None


def allowed(action: Action) -> str:
    """Return a description of the values that an option takes, for an error message."""
    return " or ".join(_described(kind) for kind in _kinds(action))


def _kinds(action: Action) -> tuple[Any, ...]:
    """Return the types of an option's value without None."""
    hint = getattr(action, "_typehint", None) or action.type or str
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(kind for kind in kinds if kind is not NoneType)


def _length(kind: Any) -> int | None:
    """Return the number of items of a tuple's type; None if any number is allowed."""
    items = get_args(kind)
    return None if get_origin(kind) is list or Ellipsis in items else len(items)


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if get_origin(kind) in (tuple, list):
        length, item = _length(kind), _TYPES.get(get_args(kind)[0], ("", "text"))[1].removeprefix("a ") + "s"
        example = "[1,2,…]" if length is None else f"[{','.join(map(str, range(1, length + 1)))}]"
        words = "a list of text, such as [a,b]" if item == "texts" else None
        return words or f"a list of {f'{length} ' if length else ''}{item}, such as {example}"
    return _TYPES.get(kind, ("", "text"))[1]
