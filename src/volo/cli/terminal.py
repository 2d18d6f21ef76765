"""The terminal as every verb finds it: whatever its encoding, and whoever reads what it is given."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path

import rich.console


class Console(rich.console.Console):
    """Prints text as it is; a reader that goes away ends the verb as it does where there is no console."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def prepare_streams() -> None:
    """Let any name be printed: what the encoding lacks is escaped. Streams that were closed take what is printed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as Python runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_output() -> None:
    """Give up standard output whose reader has gone, or Python complains of it once more when it ends."""
    with suppress(OSError, ValueError):  # not every stream is a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def readers_left() -> bool:
    """Whether anybody reads standard output, as far as what is still to be written shows."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True
