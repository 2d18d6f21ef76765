"""Files that are written completely or not at all, and checks of paths before the work starts."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Names of the temporary files of :func:`atomic_write`.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")

#: Error numbers of a full disk, an exhausted quota and a limit on the size of files.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an error.

    After an error, ``path`` is as it was before.

    Raises:
        OSError: The file cannot be written. The error has the system's number and message and names ``path``.
    """
    name = None
    try:
        # Only the beginning of the name: a name of the maximum length could not be made longer.
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp creates files that only the owner can read. The result gets the permissions of the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or (name is not None and error.filename not in (None, name)):
            raise  # an error of a library, or about another file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents for the block; after an error, remove those created folders that are empty."""
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in created:
            with suppress(OSError):
                place.rmdir()
        raise


def out_of_space(error: OSError) -> bool:
    """Return True if there was no space to write: a full disk, a quota, or a limit on the size of files."""
    return error.errno in _NO_SPACE


def system_error(error: BaseException | None) -> OSError | None:
    """Return the OSError that PyTorch re-raised as another type, or None.

    Args:
        error: an error; itself if it is an OSError, otherwise the first OSError among its contexts is returned.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def check_writable_file(path: Path) -> None:
    """Check that a file can be written, without creating anything; its folder need not exist.

    Raises:
        ValueError: The path is a folder, or its folder is not writable; see :func:`check_writable_folder`.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file")
    check_writable_folder(path.parent)


def check_writable_folder(folder: Path) -> None:
    """Check that files can be written into a folder, without creating anything; the folder need not exist.

    Raises:
        ValueError: The path or one of its parents is a file, or the nearest existing folder is not writable.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"cannot write into {folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write into {folder}: {place} is not writable; name another folder")


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files that a killed process left in ``folder`` during :func:`atomic_write`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
