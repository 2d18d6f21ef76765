"""The parser of every verb: jsonargparse, with errors that name the nearest option."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from volo.names import nearest


class VerbParser(ArgumentParser):
    """An argument parser whose errors are ``ValueError``, for :func:`volo.cli.main` to print."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, print_config=None)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w.]+)", message, re.IGNORECASE)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            raise ValueError(f"unknown option {unknown[1]}{nearest(unknown[1], options)}") from ex
        unknown = re.search(r"Option '([\w.]+)' is not accepted", message)
        if unknown:
            keys = [action.dest for action in self._actions]
            raise ValueError(f"unknown setting {unknown[1]!r}{nearest(unknown[1], keys)}") from ex
        raise ValueError(" ".join(message.split())) from ex


def parse(parser: ArgumentParser, arguments: Sequence[str], *, defaults: bool = True) -> dict[str, Any]:
    """Parse into plain nested dictionaries, without ``defaults`` of what was given alone."""
    parsed: Namespace = parser.parse_args(list(arguments), defaults=defaults)
    return parsed.as_dict()
