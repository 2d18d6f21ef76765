"""Writing a store of token labels so that every valid record is whole, even if the process is killed."""

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

#: Seconds between two syncs with the disk; a power failure or a kill loses about this much work.
SYNC_SECONDS = 2.0


def create_store(path: Path, info: StoreInfo, manifest: ImageManifest, *, reserve: bool = True) -> None:
    """Create a store in which no image is labeled yet.

    Args:
        path: the file to write.
        info: the header.
        manifest: the images.
        reserve: reserve the space on the disk now; without it the file is sparse.

    Raises:
        ValueError: The disk has not enough space.
        OSError: The file cannot be written.
    """
    names = "\0".join(manifest.names).encode("utf-8", "surrogateescape")
    start, sections, size = layout(info, names)
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        if reserve:
            _reserve(file.fileno(), size, path)
        file.truncate(size)
        sizes, labels = manifest.sizes.astype("<i8").tobytes(), manifest.labels.astype("<i4").tobytes()
        file.write(start)
        for name, content in (("sizes", sizes), ("labels", labels), ("names", names)):
            file.seek(sections[name][0])
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _reserve(descriptor: int, size: int, path: Path) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return  # the file system cannot reserve space; a full disk is then reported when records are written
        free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
        raise ValueError(
            f"no space for {path}: it needs {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free ({error.strerror})"
        ) from error


class TokenLabelWriter:
    """A writer of the records of an existing store. Several processes may write at once, each for its own images.

    :meth:`sync` brings the written records to the disk, and only then marks their images as labeled. :meth:`write`
    calls it every two seconds, and so does the end of the context.

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
            # After a failed write the disk may be full. The images since the last sync stay unmarked and are labeled
            # again later.
            if not isinstance(error, OSError):
                self.sync()
        finally:
            self._file.close()

    def write(self, indices: Sequence[int], scores: np.ndarray, classes: np.ndarray) -> None:
        """Write the label maps of some images: ``scores`` (n, h, w, k) float16, ``classes`` (n, h, w, k) integers."""
        records = np.empty(len(indices), self._type)
        records["scores"], records["classes"] = scores, classes
        offset = self._sections["records"][0]
        for index, record in zip(indices, records, strict=True):
            self._put(offset + index * self._type.itemsize, record.tobytes())
            self._states[index] = LABELED
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def mark_unreadable(self, index: int) -> None:
        """Mark an image as unreadable."""
        self._states[index] = UNREADABLE

    def refresh_sizes(self, sizes: np.ndarray) -> None:
        """Replace the file sizes of all images, (images,), before images whose files changed are labeled."""
        self._put(self._sections["sizes"][0], sizes.astype("<i8").tobytes())

    def sync(self) -> None:
        """Wait until the records are on the disk, then write the states of their images."""
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
