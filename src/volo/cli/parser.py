"""The parser of every verb: jsonargparse, with errors that name the nearest option."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from volo.names import nearest


class VerbParser(ArgumentParser):
    """An argument parser whose errors are ``ValueError``, for :func:`volo.cli.main` to print."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        unknown = re.search(r"(?:Unrecognized arguments:|Option|Key) ['\"]?(--?)?([\w.]+)", message)
        options = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        if unknown and unknown[2] not in options:
            prefix = "--" if unknown[1] or "Unrecognized" in message else ""
            suggestion = nearest(unknown[2], options).replace("'", f"'{prefix}", 1)
            raise ValueError(f"unknown option {prefix}{unknown[2]}{suggestion}") from ex
        raise ValueError(" ".join(message.split())) from ex


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse into plain nested dictionaries."""
    parsed: Namespace = parser.parse_args(list(arguments))
    return parsed.as_dict()
