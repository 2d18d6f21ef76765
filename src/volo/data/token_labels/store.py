"""The store of token labels: one file for a set of images, one record of one size for each image.

The layout, all numbers little-endian:

===============  ==================================================================================
bytes 0–7        ``VOLOTOKL``
bytes 8–11       uint32, format version
bytes 12–15      uint32, length of the header
header           UTF-8 JSON: the fields of :class:`StoreInfo`, and ``sections``: name → [offset, bytes], counted
                 from the start of the data, the next multiple of 4096 after the header
``states``       uint8 for each image: 0 not labeled yet, 1 labeled, 2 cannot be read
``sizes``        int64 for each image: bytes of its file, -1 where there is no file
``labels``       int32 for each image: its class
``names``        UTF-8, separated by NUL: paths of the images below the folder of the data, in order
``records``      for each image (h, w, k) float16 scores, then (h, w, k) uint8, uint16 or uint32 class indices
===============  ==================================================================================

A record is valid once its state says so, which is written only after the record is on the disk. Opening reads the
header; reading a record is one access at a computed place, safe in any number of processes.
"""

import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volo.data.classification.label_map import LabelMap
from volo.data.images import ImageError

MAGIC = b"VOLOTOKL"
VERSION = 1
ALIGNMENT = 4096
_SECTIONS = ("states", "sizes", "labels", "names", "records")
PENDING, LABELED, UNREADABLE = range(3)


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What a store says of itself.

    Attributes:
        teacher: the name of the network that labeled the images.
        preprocessing: what was done to an image first: size, normalization, aspect kept or not, flips averaged.
        class_names: in the order of the indices, which are those of the data set.
        count: images.
        grid: (h, w) cells of every map, over the whole image.
        top_k: classes kept for each cell.
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
        """The layout of one record."""
        shape = (*self.grid, self.top_k)
        width = next(width for width in (1, 2, 4) if len(self.class_names) <= 256**width)
        return np.dtype([("scores", "<f2", shape), ("classes", f"<u{width}", shape)])


class TokenLabelStore:
    """A store, open for reading.

    Args:
        path: a file that ``volo label`` made.

    Attributes:
        info: what the store says of itself.
        states: (images,) uint8, a live view: see the layout.

    Raises:
        ValueError: the file is no store, one of another version, or shorter than it says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info, self.sections = read_header(self.path)
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_RANDOM)  # reading ahead would read twenty times what is needed
        self.states = self._array("states", np.dtype("u1"))
        self._records = self._array("records", self.info.record_type)

    def __len__(self) -> int:
        return self.info.count

    def __getstate__(self) -> str:
        return str(self.path)

    def __setstate__(self, path: str) -> None:
        self.__init__(path)  # type: ignore[misc]  # a process of its own maps the file anew

    def read(self, index: int) -> LabelMap:
        """The labels of one image.

        Raises:
            ImageError: the image could not be read when the others were labeled, or is not labeled yet.
        """
        if self.states[index] != LABELED:
            why = "could not be read" if self.states[index] == UNREADABLE else "is still to be labeled by volo label"
            raise ImageError(f"{self.path} has no token labels of image {index}, which {why}")
        record = self._records[index]
        return LabelMap(record["scores"].copy(), record["classes"].copy())

    def names(self) -> list[str]:
        """The images' paths below the folder of the data; takes as long as there are images."""
        offset, length = self.sections["names"]
        return self._map[offset : offset + length].decode("utf-8", "surrogateescape").split("\0")

    def sizes(self) -> np.ndarray:
        """(images,) int64, bytes of every image's file, -1 where there is none."""
        return self._array("sizes", np.dtype("<i8"))

    def labels(self) -> np.ndarray:
        """(images,) int32, the class of every image."""
        return self._array("labels", np.dtype("<i4"))

    def _array(self, section: str, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(self._map, dtype, count=self.info.count, offset=self.sections[section][0])


def read_header(path: Path) -> tuple[StoreInfo, dict[str, tuple[int, int]]]:
    """What a store says of itself, and offset in the file and bytes of every section.

    Raises:
        ValueError: the file is no store, one of another version, or shorter than it says.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if start[:8] != MAGIC or len(start) < 16:
            raise ValueError(f"{path} is no store of token labels; volo label makes one")
        version, length = (int.from_bytes(part, "little") for part in (start[8:12], start[12:16]))
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
    """What a new store begins with, offset in the file and bytes of every section, and the size of the file."""
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
    """``offset``, or the next multiple of ``step`` after it."""
    return -(-offset // step) * step
