"""Files that are written whole or not at all."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it onto ``path`` once all is written.

    Raises:
        OSError: it cannot be written; the error is the system's and names ``path``.
    """
    name = None
    try:
        # The beginning of a name is enough: the longest that a file system takes leaves no room for more.
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp lets only the owner read; what a person makes with this package follows their umask instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or (name is not None and error.filename not in (None, name)):
            raise  # a library's own, or of another file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Make a folder where there is none; where the work in it fails, remove again what was made and is empty."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


def out_of_space(error: OSError) -> bool:
    """Whether the system refused to write for want of space: a full disk, a quota, a limit on the size of files."""
    return error.errno in _NO_SPACE


def system_error(error: BaseException | None) -> OSError | None:
    """What the system said, where PyTorch's writer has put words of its own in the place of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def check_writable_file(path: Path) -> None:
    """See that a file can be written, in a folder that may have to be made first, and make nothing.

    Raises:
        ValueError: it is a folder, or see :func:`check_writable_folder`.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file")
    check_writable_folder(path.parent)


def check_writable_folder(folder: Path) -> None:
    """See that files can be written into a folder that may have to be made first, and make nothing.

    Raises:
        ValueError: it is a file, or the place is not writable.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"cannot write into {folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write into {folder}: {place} is not writable; name another folder")


def remove_temporaries(folder: Path) -> None:
    """Delete what :func:`atomic_write` leaves in ``folder`` when its process is killed."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
