"""Files that are written completely or not at all, and checks of paths before the work starts."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Beginning of the names of all temporary files and folders. It is our own, so that no file of a user matches it.
TEMPORARY_PREFIX = ".volo-tmp."

#: Error numbers of a full disk, an exhausted quota and a limit on the size of files.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an error.

    After an error, ``path`` is as it was before.

    Raises:
        OSError: The file cannot be written; see :func:`named_errors`.
    """
    temporary = None
    try:
        with named_errors(path):
            # Only the beginning of the name: a name of the maximum length could not be made longer. It is not made by
            # tempfile, whose files only the owner may read: this one gets the permissions of the user's umask.
            place = path.with_name(f"{TEMPORARY_PREFIX}{path.name[:40]}.{secrets.token_hex(4)}")
            place.touch(exist_ok=False)
            temporary = place
            mode = place.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # a library may have written a file of its own permissions in its place
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Make errors of the system in the block name ``path`` in place of temporary files or of no file.

    Errors of the system are also those that a library has raised again as its own (see :func:`system_error`).

    Raises:
        OSError: With the system's number and message, and the name of ``path``.
    """
    try:
        yield
    except Exception as error:
        cause = system_error(error)
        if cause is None or cause.errno is None or (cause.filename and TEMPORARY_PREFIX not in str(cause.filename)):
            raise  # no error of the system, or one about another file
        raise OSError(cause.errno, cause.strerror, str(path)) from error


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
    """Return the error of the system that a library has raised again as its own error, or None.

    Args:
        error: any error; an OSError is returned as it is. PyTorch raises a RuntimeError whose context is the OSError,
            and libraries in Rust, such as safetensors, mention the number in their text.
    """
    if isinstance(error, OSError):
        return error
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return system_error(error.__context__) if isinstance(error, RuntimeError) else None


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
        if path.name.startswith(TEMPORARY_PREFIX) and path.is_file():
            path.unlink(missing_ok=True)
