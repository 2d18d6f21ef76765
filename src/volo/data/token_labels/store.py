"""The store of token labels: one file for a set of images, with one record of fixed size for each image.

Layout; all numbers are little-endian:

===============  ==================================================================================
bytes 0–7        ``VOLOTOKL``
bytes 8–11       uint32, format version
bytes 12–15      uint32, length of the header
header           UTF-8 JSON: the fields of :class:`StoreInfo`, and ``sections``: name → [offset, bytes]; offsets
                 count from the first multiple of 4096 after the header
``states``       uint8 for each image: 0 not labeled yet, 1 labeled, 2 cannot be read
``sizes``        int64 for each image: bytes of its file, -1 if there is no file
``labels``       int32 for each image: its class
``names``        UTF-8, separated by NUL: paths of the images relative to the folder of the data, in order
``records``      for each image (h, w, k) float16 scores, then (h, w, k) uint8, uint16 or uint32 class indices
===============  ==================================================================================

A record is valid once its state is 1; the state is written only after the record is on the disk. Opening a store reads
the header. Reading a record is one access at a computed offset, and any number of processes may do so at once.
"""

import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volo.data.classification.label_map import LabelMap
from volo.data.images import ImageError

#: First bytes of every store.
MAGIC = b"VOLOTOKL"

#: Format version.
VERSION = 1

#: The data, and the section of records in it, begin at multiples of this number of bytes.
ALIGNMENT = 4096

_SECTIONS = ("states", "sizes", "labels", "names", "records")

#: States of an image: not labeled yet, labeled, cannot be read.
PENDING, LABELED, UNREADABLE = range(3)


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """The header of a store.

    Attributes:
        teacher: name of the network that labeled the images and a digest of its weights, or the folder of the label
            files that were converted.
        preprocessing: preprocessing of the images: size, normalization, aspect kept or not, flips averaged or not;
            empty for converted files.
        class_names: names of the classes, in the order of the indices, which are those of the data set.
        count: number of images.
        grid: (h, w) cells of every label map; a map covers the whole image.
        top_k: number of classes stored for each cell.
        fingerprint: SHA-256 of the images' names, sizes and labels at the start of the labeling.
    """

    teacher: str
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]
    count: int
    grid: tuple[int, int]
    top_k: int
    fingerprint: str

    @property
    def record_type(self) -> np.dtype:
        """The dtype of one record."""
        shape = (*self.grid, self.top_k)
        width = next(width for width in (1, 2, 4) if len(self.class_names) <= 256**width)
        return np.dtype([("scores", "<f2", shape), ("classes", f"<u{width}", shape)])


class TokenLabelStore:
    """A store, open for reading.

    Args:
        path: a file that ``volo label`` wrote.

    Attributes:
        info: the header.
        states: (images,) uint8, the state of every image; a view that shows later changes of the file.

    Raises:
        ValueError: The file is not a store, has another format version, or is truncated.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info, self.sections = read_header(self.path)
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_RANDOM)  # read-ahead would read twenty times the needed bytes
        self.states = self._array("states", np.dtype("u1"))
        self._records = self._array("records", self.info.record_type)

    def __len__(self) -> int:
        return self.info.count

    def __getstate__(self) -> str:
        return str(self.path)

    def __setstate__(self, path: str) -> None:
        self.__init__(path)  # type: ignore[misc]  # another process maps the file anew

    def read(self, index: int) -> LabelMap:
        """Return the label map of one image.

        Raises:
            ImageError: The image could not be read by ``volo label``, or is not labeled yet.
        """
        if self.states[index] != LABELED:
            reason = "could not be read" if self.states[index] == UNREADABLE else "is not labeled yet"
            raise ImageError(f"{self.path} has no token labels of image {index}, which {reason}")
        record = self._records[index]
        return LabelMap(record["scores"].copy(), record["classes"].copy())

    def names(self) -> list[str]:
        """Return the names of all images, see :class:`ImageManifest`; the time grows with the number of images."""
        offset, length = self.sections["names"]
        return self._map[offset : offset + length].decode("utf-8", "surrogateescape").split("\0")

    def sizes(self) -> np.ndarray:
        """Return the bytes of every image's file, (images,) int64; -1 if there is no file."""
        return self._array("sizes", np.dtype("<i8"))

    def labels(self) -> np.ndarray:
        """Return the class index of every image, (images,) int32."""
        return self._array("labels", np.dtype("<i4"))

    def _array(self, section: str, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(self._map, dtype, count=self.info.count, offset=self.sections[section][0])


def read_header(path: Path) -> tuple[StoreInfo, dict[str, tuple[int, int]]]:
    """Read the header of a store.

    Returns:
        The header, and section → (offset in the file, length), bytes.

    Raises:
        ValueError: The file is not a store, has another format version, or is truncated.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if start[:8] != MAGIC or len(start) < 16:
            raise ValueError(f"{path} is not a store of token labels; volo label makes one")
        version, length = (int.from_bytes(number, "little") for number in (start[8:12], start[12:16]))
        if version != VERSION:
            raise ValueError(f"{path} has format version {version}; this volo reads {VERSION}; upgrade volo")
        text = file.read(length)
        size = file.seek(0, 2)
    try:
        values = json.loads(text)
        data = aligned(16 + length, ALIGNMENT)
        sections = {name: (data + offset, count) for name, (offset, count) in values.pop("sections").items()}
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        info = StoreInfo(**arguments)
        end = max(offset + count for offset, count in (sections[name] for name in _SECTIONS))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} has a damaged header ({error}); label the images again") from error
    if size < end:
        raise ValueError(f"{path} is truncated: it has {size:,} of {end:,} bytes; copy it again, or label again")
    return info, sections


def layout(info: StoreInfo, names: bytes) -> tuple[bytes, dict[str, tuple[int, int]], int]:
    """Lay out a new store with the header ``info`` and the encoded ``names``.

    Returns:
        The first bytes of the file, up to the end of the header; section → (offset in the file, length), bytes; and the
        size of the file, bytes.
    """
    lengths = (info.count, 8 * info.count, 4 * info.count, len(names), info.count * info.record_type.itemsize)
    sections, end = {}, 0
    for name, length in zip(_SECTIONS, lengths, strict=True):
        offset = aligned(end, ALIGNMENT if name == "records" else 64)
        sections[name], end = (offset, length), offset + length
    header = json.dumps({**asdict(info), "sections": sections}, ensure_ascii=False).encode()
    start = MAGIC + VERSION.to_bytes(4, "little") + len(header).to_bytes(4, "little") + header
    data = aligned(len(start), ALIGNMENT)
    placed = {name: (data + offset, length) for name, (offset, length) in sections.items()}
    return start, placed, data + end


def aligned(offset: int, step: int) -> int:
    """Round ``offset`` up to a multiple of ``step``."""
    return -(-offset // step) * step
