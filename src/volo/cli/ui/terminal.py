"""The terminal as every verb finds it: whatever its encoding, and whoever reads what it is given."""

import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import rich.console


class Console(rich.console.Console):
    """Prints text as it is; a reader that goes away ends the verb as it does where there is no console."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def warn_left_out(problems: Sequence[str], *, strict: bool) -> None:
    """Say which images are left out of a judgement, and why.

    Raises:
        ValueError: there are some, and ``strict``.
    """
    for problem in problems:
        print(f"warning: {problem}; left out", file=sys.stderr)
    if problems and strict:
        raise ValueError(f"{len(problems)} images cannot be read (--strict)")


def prepare_streams() -> None:
    """Let any name be printed: what the encoding lacks is escaped. Streams that were closed take what is printed.

    Warnings of libraries take a line each, without the place in their source.
    """
    warnings.formatwarning = lambda message, *rest: f"warning: {' '.join(str(message).split())}\n"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as Python runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> OSError | None:
    """What keeps standard output from being written, if anything: it is then given up, for Python not to try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # not every stream is a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OSError(error.errno, error.strerror, "standard output")
    return None
