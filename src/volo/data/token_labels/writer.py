"""Making a store of token labels: whole records only, each of them once, whatever stops the process."""

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from volo.data.token_labels.listing import ImageManifest
from volo.data.token_labels.store import LABELED, UNREADABLE, StoreInfo, layout, read_header
from volo.files import atomic_write

#: Seconds between two syncs with the disk: what a power failure can cost, and a killed process at most.
SYNC_SECONDS = 2.0


def create_store(path: Path, info: StoreInfo, listing: ImageManifest, *, reserve: bool = True) -> None:
    """Make a store of ``listing`` whose images are all to be labeled.

    Args:
        path: the file to write.
        info: what the store says of itself.
        listing: the images.
        reserve: claim the room on the disk now; without it the file is sparse.

    Raises:
        ValueError: the disk has no room for it. OSError: it cannot be written.
    """
    names = "\0".join(listing.names).encode("utf-8", "surrogateescape")
    start, sections, size = layout(info, names)
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        if reserve:
            _reserve(file.fileno(), size, path)
        file.truncate(size)
        sizes, labels = listing.sizes.astype("<i8").tobytes(), listing.labels.astype("<i4").tobytes()
        file.write(start)
        for name, part in (("sizes", sizes), ("labels", labels), ("names", names)):
            file.seek(sections[name][0])
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _reserve(descriptor: int, size: int, path: Path) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return  # a file system that cannot claim room tells of a full disk when it is full
        free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
        raise ValueError(
            f"no room for {path}: it takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free ({error.strerror})"
        ) from error


class TokenLabelWriter:
    """Writes records of a store; several processes may, each its own images.

    What :meth:`write` was given is on the disk after :meth:`sync`, which it calls by itself every two seconds, and
    on leaving the context. Only then is an image counted as labeled.

    >>> with TokenLabelWriter(path) as writer:
    ...     writer.write(indices, scores, classes)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info, self._sections = read_header(path)
        self._type = self.info.record_type
        self._file = path.open("r+b", buffering=0)
        self._states: dict[int, int] = {}
        self._synced = time.monotonic()

    def __enter__(self) -> "TokenLabelWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            # After a failed write the disk may be full: what was synced before stays, the rest is labeled again.
            if not isinstance(error, OSError):
                self.sync()
        finally:
            self._file.close()

    def write(self, indices: Sequence[int], scores: np.ndarray, classes: np.ndarray) -> None:
        """Write the maps of some images: ``scores`` (n, h, w, k) float16 and ``classes``, integers."""
        records = np.empty(len(indices), self._type)
        records["scores"], records["classes"] = scores, classes
        offset = self._sections["records"][0]
        for index, record in zip(indices, records, strict=True):
            self._put(offset + index * self._type.itemsize, record.tobytes())
            self._states[index] = LABELED
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def mark_unreadable(self, index: int) -> None:
        """Note that an image cannot be read."""
        self._states[index] = UNREADABLE

    def refresh_sizes(self, sizes: np.ndarray) -> None:
        """Replace the sizes (images,) of the files, before the images whose files changed are labeled."""
        self._put(self._sections["sizes"][0], sizes.astype("<i8").tobytes())

    def sync(self) -> None:
        """Wait until the disk has the records, then note their states."""
        if self._states:
            os.fsync(self._file.fileno())
            offset = self._sections["states"][0]
            for index, state in self._states.items():
                self._put(offset + index, bytes([state]))
            self._states.clear()
        self._synced = time.monotonic()

    def _put(self, offset: int, content: bytes) -> None:
        view = memoryview(content)
        self._file.seek(offset)
        while view:
            view = view[self._file.write(view) :]
