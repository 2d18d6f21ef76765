"""The terminal for every verb: all text goes out here, with what could steer the terminal escaped.

Streams of any encoding, and readers that may close the pipe, are handled here, too.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rich.console
from rich.text import Text

from volo.messages import printable


class Console(rich.console.Console):
    """Print text without rich's markup and with unprintable characters escaped.

    A closed pipe raises an error, as ``print`` does.
    """

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        # Every string passes here, also those in the cells of tables. Names in them may come from strangers' files.
        return super().render_str(_escaped(text), **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def say(text: str) -> None:
    """Print text on standard output, with unprintable characters escaped; line breaks stay."""
    print(_escaped(text))  # noqa: T201  # the only place that prints


def note(text: str) -> None:
    """Print one line that begins with "note:" on standard error, with unprintable characters escaped."""
    say_error(f"note: {text}")


def warn(text: str) -> None:
    """Print one line that begins with "warning:" on standard error, with unprintable characters escaped."""
    say_error(f"warning: {text}")


def say_error(text: str) -> None:
    """Print one line on standard error, with unprintable characters and line breaks escaped."""
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def _escaped(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def warn_left_out(problems: Sequence[str], *, strict: bool) -> None:
    """Print a warning for every image that is left out of an evaluation.

    Args:
        problems: one message for each image.
        strict: make images that are left out an error.

    Raises:
        ValueError: Images are left out, and ``strict`` is set.
    """
    for problem in problems:
        warn(f"{problem}; left out")
    if problems and strict:
        raise ValueError(f"{len(problems)} images cannot be read (--strict)")


def prepare_streams() -> None:
    """Make standard output and error accept every character and warning.

    Characters that the encoding lacks are escaped, streams that were closed discard their text, and a warning of a
    library takes one line without the place in its source. Pillow's warnings of unusual metadata are not shown, nor is
    matplotlib's log of where its cache lies if the home folder is not writable.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.formatwarning = lambda message, *rest: f"warning: {printable(' '.join(str(message).split()))}\n"
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
