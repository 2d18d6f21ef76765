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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from volo.data.classification.label_map import LabelMap
from volo.data.images import ImageError
from volo.limits import LONGEST_SIDE, MOST_OUTPUTS, check_names, is_count, is_number, parse_json, short_repr

#: First bytes of every store.
MAGIC = b"VOLOTOKL"

#: Format version.
VERSION = 1

#: The data, and the section of records in it, begin at multiples of this number of bytes.
ALIGNMENT = 4096

_SECTIONS = ("states", "sizes", "labels", "names", "records")

#: Most images of a store, which any file would be too small for.
_MOST_IMAGES = 2**48

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

    Raises:
        ValueError: A field is of another type or out of range.
    """

    teacher: str
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]
    count: int
    grid: tuple[int, int]
    top_k: int
    fingerprint: str

    def __post_init__(self) -> None:
        check_names(self.class_names)
        for name, kind in (("teacher", str), ("preprocessing", dict), ("fingerprint", str)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be of type {kind.__name__}, not {short_repr(getattr(self, name))}")
        if not is_count(self.count, _MOST_IMAGES):
            raise ValueError(f"count must be the number of images, not {short_repr(self.count)}")
        grid = self.grid
        if not isinstance(grid, tuple) or len(grid) != 2 or not all(is_count(side, LONGEST_SIDE) for side in grid):
            raise ValueError(f"grid must be two numbers of cells, not {short_repr(grid)}")
        if not is_count(self.top_k, MOST_OUTPUTS):
            raise ValueError(f"top_k must be a number of classes, not {short_repr(self.top_k)}")

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
            ImageError: The image could not be read by ``volo label``, is not labeled yet, or its labels are damaged.
        """
        if self.states[index] != LABELED:
            reason = "could not be read" if self.states[index] == UNREADABLE else "is not labeled yet"
            raise ImageError(f"{self.path} has no token labels of image {index}, which {reason}")
        scores, classes = (self._records[index][part].copy() for part in ("scores", "classes"))
        if not np.isfinite(scores).all() or classes.max() >= len(self.info.class_names):
            raise ImageError(f"{self.path} has damaged token labels of image {index}; label the images again")
        return LabelMap(scores, classes)

    def names(self) -> list[str]:
        """Return the names of all images, see :class:`ImageManifest`; the time grows with the number of images.

        Raises:
            ValueError: There are more or fewer names than images.
        """
        offset, length = self.sections["names"]
        names = self._map[offset : offset + length].decode("utf-8", "surrogateescape").split("\0")
        if len(names) != self.info.count:
            raise ValueError(
                f"{self.path} is damaged: it has {len(names):,} names of {self.info.count:,} images; "
                "label the images again"
            )
        return names

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
        size = file.seek(0, 2)
        file.seek(len(start))
        text = file.read(min(length, size))
    try:
        info, sections = _parse_header(text.decode("utf-8"), aligned(16 + length, ALIGNMENT))
    except ValueError as error:
        raise ValueError(f"{path} has a damaged header ({error}); label the images again") from error
    end = max(offset + count for offset, count in sections.values())
    if size < end:
        raise ValueError(f"{path} is truncated: it has {size:,} of {end:,} bytes; copy it again, or label again")
    return info, sections


def _parse_header(text: str, data: int) -> tuple[StoreInfo, dict[str, tuple[int, int]]]:
    """Parse and check a header.

    Args:
        text: JSON.
        data: place in the file from which the offsets count.

    Raises:
        ValueError: A field is missing, unknown, of another type or out of range.
    """
    values = parse_json(text)
    known = [field.name for field in fields(StoreInfo)]
    if not isinstance(values, dict) or values.keys() != {*known, "sections"}:
        raise ValueError(f"it must have the fields {', '.join(known)} and sections")
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    info = StoreInfo(**{name: lists[name] for name in known})
    sections = {}
    for name, length in _lengths(info).items():
        place = values["sections"].get(name) if isinstance(values["sections"], dict) else None
        if not isinstance(place, list) or len(place) != 2 or not all(map(_is_offset, place)):
            raise ValueError(f"the section {name} must have an offset and a length, not {short_repr(place)}")
        if length not in (None, place[1]):
            raise ValueError(f"the section {name} must have {length:,} bytes, not {place[1]:,}")
        sections[name] = (data + place[0], place[1])
    return info, sections


def _is_offset(value: object) -> bool:
    return isinstance(value, int) and is_number(value, 0, 2**62)


def _lengths(info: StoreInfo) -> dict[str, int | None]:
    """Return the bytes of every section; None for the names, whose length the header gives alone."""
    count = info.count
    lengths = (count, 8 * count, 4 * count, None, count * info.record_type.itemsize)
    return dict(zip(_SECTIONS, lengths, strict=True))


def layout(info: StoreInfo, names: bytes) -> tuple[bytes, dict[str, tuple[int, int]], int]:
    """Lay out a new store with the header ``info`` and the encoded ``names``.

    Returns:
        The first bytes of the file, up to the end of the header; section → (offset in the file, length), bytes; and the
        size of the file, bytes.
    """
    sections, end = {}, 0
    for name, fixed in _lengths(info).items():
        offset, length = aligned(end, ALIGNMENT if name == "records" else 64), len(names) if fixed is None else fixed
        sections[name], end = (offset, length), offset + length
    header = json.dumps({**asdict(info), "sections": sections}, ensure_ascii=False).encode()
    start = MAGIC + VERSION.to_bytes(4, "little") + len(header).to_bytes(4, "little") + header
    data = aligned(len(start), ALIGNMENT)
    placed = {name: (data + offset, length) for name, (offset, length) in sections.items()}
    return start, placed, data + end


def aligned(offset: int, step: int) -> int:
    """Round ``offset`` up to a multiple of ``step``."""
    return -(-offset // step) * step
