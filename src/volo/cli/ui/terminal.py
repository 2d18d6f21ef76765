"""The terminal for every verb: any encoding, and readers that may close the pipe."""

import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import rich.console


class Console(rich.console.Console):
    """Print text as it is, without rich's markup; a closed pipe raises an error, as ``print`` does."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def warn_left_out(problems: Sequence[str], *, strict: bool) -> None:
    """Print a warning for every image that is left out of an evaluation.

    Args:
        problems: one message for each image.
        strict: make images that are left out an error.

    Raises:
        ValueError: Images are left out, and ``strict`` is set.
    """
    for problem in problems:
        print(f"warning: {problem}; left out", file=sys.stderr)
    if problems and strict:
        raise ValueError(f"{len(problems)} images cannot be read (--strict)")


def prepare_streams() -> None:
    """Make standard output and error accept every character and warning.

    Characters that the encoding lacks are escaped, streams that were closed discard their text, and a warning of a
    library takes one line without the place in its source.
    """
    warnings.formatwarning = lambda message, *rest: f"warning: {' '.join(str(message).split())}\n"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as Python runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> OSError | None:
    """Flush standard output; if it cannot be written, discard it from now on and return the error.

    Otherwise Python would try again when it ends, and print a second error.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # not every stream is a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OSError(error.errno, error.strerror, "standard output")
    return None
