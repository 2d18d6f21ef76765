"""The command ``volo``: one verb, one file, in the groups of its help."""

import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from volo.cli.ui.terminal import give_up_output, prepare_streams, say, say_error, warn
from volo.extras import missing_extra
from volo.files import out_of_space
from volo.messages import elide, nearest, printable
from volo.skipped import collect_skipped, describe_skipped

#: heading → the package of this one that holds its verbs, and each verb with what it does. A verb is a module of its
#: name with a function ``run(arguments)``, which returns the exit code.
GROUPS = {
    "Train": (
        "volo.cli.training",
        {
            "train": "train a model on your images, or resume a run",
            "label": "write token labels of images with a teacher, to train on",
            "recipes": "list the training recipes, or print one",
            "compare": "compare training runs",
            "demo": "train, evaluate and predict on the embedded data, and draw pictures of it all",
        },
    ),
    "Use a trained model": (
        "volo.cli.inference",
        {
            "predict": "classify images, or segment them, with a trained model",
            "eval": "evaluate a trained model on labeled images",
            "export": "write a trained model for another runtime, and check the file",
            "bench": "measure how fast models are on this machine",
        },
    ),
    "Data, weights and this installation": (
        "volo.cli.management",
        {
            "data": "check a data set: what is in it, what is wrong with it",
            "models": "list the model sizes",
            "weights": "inspect, convert, list and download weights",
            "doctor": "report what runs on this machine and why",
            "completion": "print the completion of commands for a shell",
        },
    ),
}
#: Verb → its module.
MODULES = {verb: f"{package}.{verb}" for package, verbs in GROUPS.values() for verb in verbs}

#: Another word for a verb → the verb.
SYNONYMS = {"evaluate": "eval"}


@contextmanager
def _interrupted_once() -> Iterator[None]:
    r"""Let Ctrl-C raise KeyboardInterrupt once: a second one would interrupt the cleaning up after the first.

    A process that hangs can still be stopped by Ctrl-\.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@_interrupted_once()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        The exit code: 0 for success; 1 for a failure; 2 for a mistake of the user; 128 + the number of the signal that
        stopped it, such as 130 after Ctrl-C. It is 141 if the reader of a pipe has closed it, which is not an error:
        most programs are stopped by that signal, which Python ignores.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    prepare_streams()
    try:
        with collect_skipped() as skipped:
            code = _dispatch(words)
        sys.stdout.flush()  # a full disk raises its error here rather than when Python ends
        if skipped and _is_first_process():
            warn(describe_skipped(skipped))
        return code
    except KeyboardInterrupt:
        give_up_output()
        say_error("interrupted")
        return 130
    except (Exception, SystemExit) as caught:
        error = give_up_output() or caught
        if isinstance(error, BrokenPipeError):
            return 141
        if isinstance(error, SystemExit) or debug:
            raise
        hint = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        say_error(f"{' '.join(['volo', *words[:1]])}: {hint or _one_line(error)}")
        return 2 if hint or _is_mistake(error) else 1


def _is_first_process() -> bool:
    """Return whether this is the first of the processes that train together, by the variables that number them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        say(_usage())
        return 0
    if words[0] == "--version":
        from volo import __version__

        say(__version__)
        return 0
    verb, *rest = words
    verb = SYNONYMS.get(verb, verb)
    if verb not in MODULES:
        raise ValueError(f"unknown command {verb!r}{nearest(verb, MODULES)}")
    return importlib.import_module(MODULES[verb]).run(rest)


#: Most characters of an error line.
_LONGEST_LINE = 2000
#: Error number of the system → advice.
_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions, or name another place"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or name another place"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "see whether the path is right"),
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _is_mistake(error: Exception) -> bool:
    """Return whether the user can correct the error, rather than the machine having failed."""
    if isinstance(error, OSError):
        return not out_of_space(error) and error.errno != errno.EIO
    return isinstance(error, ValueError)


def _one_line(error: Exception) -> str:
    """Return the first line of the message, with the type and how to see more if the error is not the user's."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{printable(error.filename)}: " if error.filename else ""
        advice = _ADVICE.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {advice}" if advice else "")
    text = str(error).strip().splitlines()
    # A name or value of a file that is part of the message may be of any length.
    first = elide(text[0], _LONGEST_LINE) if text else type(error).__name__
    if isinstance(error, ValueError | OSError):
        return first
    return f"{type(error).__name__}: {first} (--debug shows where)"


def _usage() -> str:
    lines = ["usage: volo COMMAND [options]", ""]
    for heading, (_, verbs) in GROUPS.items():
        lines += [f"{heading}:", *(f"  {verb:<11}{what}" for verb, what in verbs.items()), ""]
    lines.append("volo COMMAND --help describes a command; --version prints the version; --debug shows tracebacks.")
    return "\n".join(lines)
