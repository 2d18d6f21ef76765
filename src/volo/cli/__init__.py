"""The command ``volo``: one verb, one file."""

import errno
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from volo.cli.terminal import give_up_output, prepare_streams
from volo.extras import missing_extra
from volo.files import out_of_space
from volo.names import nearest, shown

#: verb → what it does; each is a module of this package with ``run(arguments)``.
VERBS = {
    "train": "train a model on a folder of images",
    "data": "check a data set: what is in it, what is wrong with it",
    "eval": "judge a trained model on labelled images",
    "label": "label every region of images by a teacher, to train on",
    "compare": "lay training runs side by side",
    "predict": "name what is on images with a trained model",
    "bench": "measure how fast models are here, beside others",
    "export": "write a trained model for another runtime, and check the file",
    "recipes": "list the training recipes, or print one",
    "models": "list the model sizes",
    "weights": "look at, convert, list and fetch weights",
    "doctor": "say what runs here and why, for a report of an error",
    "demo": "train on the embedded data, judge, predict, and draw a picture of it all",
}


@contextmanager
def _interrupted_once() -> Iterator[None]:
    r"""Until the end, Ctrl-C raises KeyboardInterrupt once: another would tear what ends and tidies up after the first.

    A process that hangs can still be told so by Ctrl-\.
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
        The exit code: 0; 1 for a failure; 2 for a mistake of the user's; 128 + the number of the signal that stopped
        it, 130 after Ctrl-C. 141 where the reader of a pipe has gone, which is no error: the signal of that stops most
        programs, and Python turns it off.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    prepare_streams()
    try:
        code = _dispatch(given)
        sys.stdout.flush()  # a disk that is full shows here rather than when Python ends
        return code
    except KeyboardInterrupt:
        give_up_output()
        print("interrupted", file=sys.stderr)
        return 130
    except (Exception, SystemExit) as caught:
        error = give_up_output() or caught
        if isinstance(error, BrokenPipeError):
            return 141
        if isinstance(error, SystemExit) or debug:
            raise
        hint = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        print(f"{' '.join(['volo', *given[:1]])}: {hint or _one_line(error)}", file=sys.stderr)
        return 2 if hint or _is_mistake(error) else 1


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if given[0] == "--version":
        from volo import __version__

        print(__version__)
        return 0
    verb, *rest = given
    if verb not in VERBS:
        raise ValueError(f"there is no such command{nearest(verb, VERBS)}")
    return importlib.import_module(f"volo.cli.{verb}").run(rest)


#: What the system says → what to do about it.
_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions, or name another place"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or name another place"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "see whether the path is right"),
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _is_mistake(error: Exception) -> bool:
    """Whether the user can mend it, and the machine has not failed."""
    if isinstance(error, OSError):
        return not out_of_space(error) and error.errno != errno.EIO
    return isinstance(error, ValueError)


def _one_line(error: Exception) -> str:
    """The first line of the message; of an error that is not the user's, its type and how to see more."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{shown(error.filename)}: " if error.filename else ""
        advice = _ADVICE.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {advice}" if advice else "")
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    if isinstance(error, ValueError | OSError):
        return first
    return f"{type(error).__name__}: {first} (--debug shows where)"


def _usage() -> str:
    lines = [f"  {verb:<9} {what}" for verb, what in VERBS.items()]
    return "\n".join(
        [
            "usage: volo COMMAND [options]",
            "",
            *lines,
            "",
            "volo COMMAND --help tells more; --version prints the version; --debug shows tracebacks.",
        ]
    )
