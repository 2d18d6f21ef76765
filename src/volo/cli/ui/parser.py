"""The parser of every verb: jsonargparse, with errors that name the nearest option."""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from volo.data import DataSource
from volo.messages import nearest


class VerbParser(ArgumentParser):
    """An argument parser whose errors are ``ValueError``, for :func:`volo.cli.main` to print."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, print_config=None)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w.]+)", message, re.IGNORECASE)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            raise ValueError(f"unknown option {unknown[1]}{nearest(unknown[1], options)}") from ex
        unknown = re.search(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'", message)
        if unknown:
            name, keys = ".".join(filter(None, unknown.groups())), [action.dest for action in self._actions]
            raise ValueError(f"unknown setting {name!r}{nearest(name, keys)}") from ex
        raise ValueError(" ".join(message.split())) from ex


def parse(parser: ArgumentParser, arguments: Sequence[str], *, defaults: bool = True) -> dict[str, Any]:
    """Parse into plain nested dictionaries; options may be written with - in the place of _.

    Without ``defaults`` the dictionaries hold what was given alone.
    """
    options = {option for action in parser._actions for option in action.option_strings}
    spelled = [_spelled(argument, options) for argument in arguments]
    parsed: Namespace = parser.parse_args(spelled, defaults=defaults)
    return parsed.as_dict()


def _spelled(argument: str, options: set[str]) -> str:
    """``--batch_size=3`` for ``--batch-size=3``, where the parser knows that option alone."""
    name, equals, value = argument.partition("=")
    underlined = f"--{name[2:].replace('-', '_')}"
    known = name.startswith("--") and name not in options and underlined in options
    return underlined + equals + value if known else argument


def add_data_options(parser: ArgumentParser) -> None:
    """The options that say how to understand what a person names as data."""
    parser.add_argument("--download", action="store_true", help="let torchvision download a data set that is not there")
    parser.add_argument("--palette", action="store_true", help="convert masks by the colors of their classes")
    parser.add_class_arguments(DataSource, skip={"download", "palette"}, fail_untyped=True)


def data_source(given: dict[str, Any]) -> DataSource:
    """What these options say."""
    return DataSource(**{field.name: given[field.name] for field in fields(DataSource)})


def add_runtime_options(parser: ArgumentParser) -> None:
    """The options that say how to run a model."""
    parser.add_argument("--threads", type=int | None, help="to compute with on the CPU; default: the runtime's choice")
    parser.add_argument(
        "--runtime",
        type=str | None,
        help="pytorch or compile; of an exported file onnxruntime, openvino, torch-export or aotinductor; default: by "
        "the file",
    )


def runtime_of(given: dict[str, Any]) -> dict[str, Any]:
    """What these options say, as arguments of :class:`volo.Predictor` and :class:`volo.Segmenter`."""
    return {name: given[name] for name in ("threads", "runtime")}
