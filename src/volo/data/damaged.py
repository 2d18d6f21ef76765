"""Files that Pillow refuses although their picture is complete.

Pillow can be told to take them by settings of the whole process (``LOAD_TRUNCATED_IMAGES``, ``MAX_TEXT_CHUNK``), which
would also let it take truncated pictures. Here the data are mended instead, for one image alone.
"""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageChops, PngImagePlugin
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from volo.data.color_modes import load_pixels
from volo.data.read_notes import ReadNote

#: Most scans of a progressive JPEG. Ten are usual, and every scan takes time for the whole picture.
MOST_SCANS = 100

_LEADING_BYTES = ReadNote("although blank bytes come before the beginning")
_LARGE_CHUNKS = ReadNote("without a text or color profile that takes too much memory")
_NO_END = ReadNote("although the end marker is missing; the picture is complete")

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BLANKS = b"\0\t\n\r "
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
#: Data that look like those of a picture: in the usual codes, these bits stand for small values without an end.
_NOISE = b"\x55" * 64 + bytes((97 * number + 13) % 251 for number in range(256))


def pillow_source(path: Path) -> tuple[Path | BinaryIO, list[ReadNote]]:
    """Return what Pillow is to open for a file: its path, or its content without what Pillow would refuse.

    Left out are blank bytes before a JPEG or a PNG, and text and color profiles of a PNG that are larger than Pillow
    allows.

    Returns:
        The path or the content, and notes about what is left out.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
        first = len(start) - len(start.lstrip(_BLANKS))
        spans, notes = [], []
        if start.startswith(_PNG, first) and (spans := _large_chunks(file, first + len(_PNG))):
            notes.append(_LARGE_CHUNKS)
        if first and start.startswith((_PNG, _JPEG), first):
            spans.insert(0, (0, first))
            notes.append(_LEADING_BYTES)
        if not spans:
            return path, notes
        kept, position = io.BytesIO(), 0
        for begin, end in spans:
            file.seek(position)
            kept.write(file.read(begin - position))
            position = end
        file.seek(position)
        kept.write(file.read())
    return kept, notes


def _large_chunks(file: BinaryIO, position: int) -> list[tuple[int, int]]:
    """Return the (beginning, end) of every text and profile of a PNG that Pillow refuses for its size.

    Args:
        file: the file.
        position: of its first chunk.
    """
    large: list[tuple[int, int]] = []
    kept = 0  # bytes of text
    file.seek(position)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        end = position + length + 12
        if kind in (b"iCCP", b"zTXt", b"iTXt", b"tEXt"):
            size, packed = _unpacked(kind, file.read(length))
            text = size if kind != b"iCCP" else 0
            if (packed and size > PngImagePlugin.MAX_TEXT_CHUNK) or kept + text > PngImagePlugin.MAX_TEXT_MEMORY:
                large.append((position, end))
            else:
                kept += text
        elif kind == b"IEND":
            break
        position = end
        file.seek(position)
    return large


def _unpacked(kind: bytes, data: bytes) -> tuple[int, bool]:
    """Return the size of the text or profile in a chunk, and whether it is compressed.

    What is larger than Pillow allows is unpacked only so far as to see this.
    """
    _, _, rest = data.partition(b"\0")
    packed = kind in (b"iCCP", b"zTXt") or (kind == b"iTXt" and rest[:1] == b"\1")
    if not packed:
        return len(data), False
    if kind == b"iTXt":  # flag, method, language, translated keyword, text
        _, _, rest = rest[2:].split(b"\0", 2) if rest.count(b"\0", 2) > 1 else (b"", b"", b"")
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, PngImagePlugin.MAX_TEXT_CHUNK + 1)), True
    except zlib.error:  # Pillow finds it, too
        return 0, True


def check_scans(image: Image.Image, path: Path) -> None:
    """Check that a progressive JPEG has no more scans than :data:`MOST_SCANS`.

    Raises:
        ValueError: It has more.
    """
    if isinstance(image, JpegImageFile) and image.info.get("progressive"):
        scans = path.read_bytes().count(_START_OF_SCAN)
        if scans > MOST_SCANS:
            raise ValueError(f"it is a progressive JPEG of {scans:,} scans; {MOST_SCANS} are allowed; save it again")


def load_whole(image: ImageFile, reopened: Callable[[], AbstractContextManager[Image.Image]]) -> list[ReadNote]:
    """Decode an image; a JPEG without its end marker is allowed, one that ends in the middle of its picture is not.

    Args:
        image: the opened image.
        reopened: opens the same image once more, to be decoded at the same size.

    Returns:
        A note about a missing end marker.

    Raises:
        OSError: The file is truncated.
    """
    if not isinstance(image, JpegImageFile):
        load_pixels(image)
        return []
    reader = _EndedReader(image.load_read)
    _load_with(image, reader)
    if not reader.added and not _ends_in_gray(image):
        return []
    # The decoder fills what is missing of a picture with gray. Whether anything is missing shows when other data follow
    # the file's own: they change a picture that is not complete, and are skipped after a complete one.
    with reopened() as other:
        assert isinstance(other, JpegImageFile)
        _load_with(other, _NoisyReader(other.load_read, ended=not reader.added))
        if ImageChops.difference(image, other).getbbox() is not None:
            raise OSError("image file is truncated")
    return [_NO_END] if reader.added else []


class _EndedReader:
    """Read the data of a JPEG, and add the end marker if the decoder needs more than there is.

    Attributes:
        added: whether the marker was added.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read, self.added = read, False

    def __call__(self, count: int) -> bytes:
        data = self.read(count)
        if data or self.added:
            return data
        self.added = True
        return _END_OF_IMAGE


class _NoisyReader:
    """Read the data of a JPEG at once, with noise before the end marker.

    Args:
        read: reads the data.
        ended: whether the data have an end marker.
    """

    def __init__(self, read: Callable[[int], bytes], *, ended: bool) -> None:
        self.read, self.ended = read, ended

    def __call__(self, count: int) -> bytes:
        data = self.read(-1)
        if not data:
            return b""
        end = data.rfind(_END_OF_IMAGE) if self.ended else -1
        picture = data[:end] if end >= 0 else data.rstrip(b"\xff")  # half an end marker is none
        return picture + _NOISE + _END_OF_IMAGE


def _load_with(image: JpegImageFile, reader: Callable[[int], bytes]) -> None:
    """Decode an image whose data come from ``reader``, the hook that Pillow has for its formats."""
    image.load_read = reader  # type: ignore[assignment,method-assign]
    try:
        image.load()
    finally:
        del image.load_read


def _ends_in_gray(image: JpegImageFile) -> bool:
    """Return whether the lower right corner has the gray with which the decoder fills a picture that ends early."""
    (width, height), side = image.size, 8 // (image.decoderconfig or (1,))[0]  # a block, as much as it is shrunk
    corner = image.crop((max(0, width - side), max(0, height - side), width, height)).getextrema()
    bands = [corner] if isinstance(corner[0], int | float) else corner
    return all(low >= 127 and high <= 128 for low, high in bands)
