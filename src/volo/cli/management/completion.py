"""``volo completion``: the completion of commands and options for a shell. Needs the extra ``volo[completion]``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from volo.cli import GROUPS, MODULES
from volo.cli.management import weights
from volo.cli.ui.help import dashed, values
from volo.cli.ui.parser import VerbParser, parse

#: Shell → where to write the script.
SHELLS = {
    "bash": "volo completion bash > ~/.local/share/bash-completion/completions/volo",
    "zsh": "volo completion zsh > ~/.zfunc/_volo, with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc",
    "fish": "volo completion fish > ~/.config/fish/completions/volo.fish",
}


def run(arguments: Sequence[str]) -> int:
    """Print the script of a shell."""
    shell = parse(parser(), arguments)["shell"]
    if shell not in SHELLS:
        raise ValueError(f"unknown shell {shell!r}; it is one of {', '.join(SHELLS)}")
    import shtab

    sys.stdout.write(shtab.complete(commands(), shell) + "\n")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo completion``."""
    parser = VerbParser(
        prog="volo completion",
        usage="bash|zsh|fish",
        description="Print the script that completes commands and options in a shell.",
        epilog="\n".join(SHELLS.values()),
    )
    parser.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))
    return parser


def commands() -> argparse.ArgumentParser:
    """Return a plain parser of all commands with their options, for shtab to read."""
    root = argparse.ArgumentParser("volo")
    root.add_argument("--version", action="store_true", help="print the version")
    verbs = root.add_subparsers()
    descriptions = {verb: text for _, group in GROUPS.values() for verb, text in group.items()}
    for verb, description in descriptions.items():
        command = verbs.add_parser(verb, help=description)
        if verb in ("data", "weights"):
            actions = command.add_subparsers()
            for action, parser in _actions(verb):
                _copy(parser, actions.add_parser(action, help=parser.description))
        else:
            _copy(_parser(verb), command)
    return root


def _parser(verb: str) -> VerbParser:
    """Return the parser of a verb; that of ``volo train`` with the short forms of its help."""
    module = import_module(MODULES[verb])
    parser: VerbParser = module.short_parser() if verb == "train" else module.parser()
    return parser


def _actions(verb: str) -> Iterator[tuple[str, VerbParser]]:
    if verb == "data":
        yield "check", _parser("data")
    else:
        yield from ((action, weights.parser(action)) for action in weights.ACTIONS)


def _copy(source: VerbParser, target: argparse.ArgumentParser) -> None:
    """Copy the options of a parser in their spelling with dashes, and its arguments, which are files."""
    import shtab

    for action in source._actions:
        if action.dest == "help" or action.help == argparse.SUPPRESS:
            continue
        text = (action.help or "").replace("%", "%%")
        if not action.option_strings:
            target.add_argument(action.dest, nargs="*", help=text).complete = shtab.FILE  # type: ignore[attr-defined]
            continue
        names = [dashed(option) for option in action.option_strings if not option.endswith("+")]
        if action.nargs == 0:
            target.add_argument(*names, action="store_true", help=text)
            continue
        choices = values(action)
        added = target.add_argument(*names, choices=choices, help=text)
        if choices is None:
            added.complete = shtab.FILE  # type: ignore[attr-defined]
