"""The parser of every verb: jsonargparse, with errors that say what was meant, and help without types."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from volo.cli.ui.help import HelpFormatter, allowed, dashed
from volo.cli.ui.hints import EVERYWHERE, find_hint
from volo.data import DataSource
from volo.messages import nearest

#: jsonargparse's error about a value of another type.
_WRONG_VALUE = r'Parser key "([\w.]+)":\s+(?:Expected|Does not validate).*?(?:Got|Given) value: (.*)'


class VerbParser(ArgumentParser):
    """An argument parser whose errors are ``ValueError``, for :func:`volo.cli.main` to print.

    Args:
        prog: the command, such as ``volo train``.
        usage: what follows the command, such as ``MODEL IMAGE... [options]``; several lines for several forms.
        description: what the command does, in a sentence.
        epilog: the end of the help.
        hints: wrong options, without their dashes, and what to write instead; beside those of every verb.
        synonyms: other names of options, such as those of earlier versions, and the options, all without their dashes;
            the help leaves them out.
    """

    def __init__(
        self,
        *,
        prog: str,
        usage: str,
        description: str,
        epilog: str = "",
        hints: Mapping[str, str] | None = None,
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        forms = "\n       ".join(f"{prog} {line}".rstrip() for line in usage.split("\n"))
        super().__init__(
            prog=prog,
            usage=forms.replace("%", "%%"),
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            print_config=None,
        )
        self.hints = {**EVERYWHERE, **(hints or {})}
        self.synonyms = {f"--{old}": f"--{new}" for old, new in (synonyms or {}).items()}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ValueError(self._plain(message)) from ex

    def _plain(self, message: str) -> str:
        """Return an error of jsonargparse in words that need no knowledge of the code."""
        if unknown := re.search(r"unrecognized arguments: (.+)", message, re.IGNORECASE):
            return self._unknown_argument(unknown[1].split()[0])
        if unknown := re.search(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'", message):
            name, keys = ".".join(filter(None, unknown.groups())), [action.dest for action in self._actions]
            return f"unknown setting {name!r}{nearest(name, keys)}"
        if missing := re.search(r"argument (--[\w.-]+)[^:]*: expected (?:one|at least one) argument", message):
            return f"{dashed(missing[1])} needs a value"
        if wrong := re.search(_WRONG_VALUE, message, re.DOTALL):
            key, value = wrong[1], wrong[2].strip()
            action = next((action for action in self._actions if action.dest == key), None)
            if action is not None:
                return f"{self.spell(key)} must be {allowed(action)}, not {value!r}"
        if missing := re.search(r'Parser key "(\w+)" is required but not included|required: ([\w, ]+)', message):
            return f"{self.spell(missing[1] or missing[2])} is missing; usage: {str(self.usage).splitlines()[0]}"
        return " ".join(message.split())

    def spell(self, key: str) -> str:
        """Return the name of a setting as people write it: the option, or an argument without one."""
        positional = any(action.dest == key and not action.option_strings for action in self._actions)
        return key if positional else dashed(f"--{key}")

    def _unknown_argument(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"too many arguments, from {argument!r} on; usage: {str(self.usage).splitlines()[0]}"
        name = argument.partition("=")[0]
        options = [dashed(option) for action in self._actions for option in action.option_strings]
        known = {*options, *self.synonyms, "--debug"}
        hint = find_hint(dashed(name.lstrip("-")), self.hints, options=known, usage=str(self.usage))
        if hint:
            return f"unknown option {name}: {hint}"
        return f"unknown option {name}{nearest(dashed(name), options)}"


def parse(parser: VerbParser, arguments: Sequence[str], *, defaults: bool = True) -> dict[str, Any]:
    """Parse into plain nested dictionaries; dashes and underscores in names of options are the same.

    Args:
        parser: of the verb.
        arguments: words after the verb.
        defaults: include options that were not given, with their defaults.

    Raises:
        ValueError: An option is unknown, is missing, or has a value that is not allowed.
    """
    options = {dashed(option): option for action in parser._actions for option in action.option_strings}
    options |= {old: options[new] for old, new in parser.synonyms.items()}
    try:
        parsed: Namespace = parser.parse_args([_spelled(word, options) for word in arguments], defaults=defaults)
    except OverflowError as error:  # jsonargparse lets it pass
        raise ValueError(f"a number is out of range: {error}") from error
    return parsed.as_dict()


def _spelled(argument: str, options: Mapping[str, str]) -> str:
    """Return an argument with its option spelled as the parser has it."""
    name, equals, value = argument.partition("=")
    return options.get(dashed(name), name) + equals + value if name.startswith("--") else argument


#: Settings of a data source that are flags on the command line.
_FLAGS = {
    "download": "let torchvision download a data set that is missing",
    "palette": "segmentation: read the classes of masks from their colors",
}


def add_data_options(parser: ArgumentParser, *, masks: bool = True) -> None:
    """Add the options that tell how to read a data set; ``masks`` adds those that only images with masks need."""
    skipped = set() if masks else {"palette", "classes"}
    for name, text in _FLAGS.items():
        if name not in skipped:
            parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_class_arguments(DataSource, skip={*_FLAGS, *skipped}, fail_untyped=True)


def data_source(options: Mapping[str, Any], *, masks: bool = True) -> DataSource:
    """Return the data source that these options describe; ``masks`` as in :func:`add_data_options`."""
    names = {field.name for field in fields(DataSource)} - (set() if masks else {"palette", "classes"})
    return DataSource(**{name: options[name] for name in names})


def add_overwrite_option(parser: ArgumentParser) -> None:
    """Add the option that allows to replace files of an earlier call."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that exist; images, models and files of volo train are never replaced",
    )


def add_runtime_options(parser: ArgumentParser) -> None:
    """Add the options that tell how to run a model."""
    parser.add_argument("--threads", type=int | None, help="CPU threads to compute with (default: the runtime's)")
    parser.add_argument(
        "--runtime",
        type=str | None,
        help="pytorch or compile; for an exported file onnxruntime, openvino, torch-export or aotinductor (default: "
        "the one of the file)",
    )
    add_trust_option(parser)


def add_trust_option(parser: ArgumentParser) -> None:
    """Add the option to let an exported file run code."""
    parser.add_argument("--trust", action="store_true", help="let a .pt2 file run code that is in it (AOTInductor)")


def runtime_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :class:`volo.Predictor` and :class:`volo.Segmenter` that these options stand for."""
    return {name: options[name] for name in ("threads", "runtime", "trust")}
