"""Files that are written whole or not at all."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it onto ``path`` once all is written."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp lets only the owner read; what a person makes with this package follows their umask instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
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
    """Delete what :func:`replacing` leaves in ``folder`` when its process is killed."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
