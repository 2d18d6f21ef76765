"""Sets of labeled images, and reading one image."""

import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from volo.data.color_modes import BACKGROUND, apply_exif_orientation, as_channels, mode_of, upright_size
from volo.data.damaged import check_scans, load_whole, pillow_source
from volo.data.read_notes import ReadNote, attach_notes, notes_of
from volo.messages import printable

#: The default limit of pixels to decode. It equals Pillow's own. An image of 179 megapixels takes 0.7 GB in memory,
#: because Pillow keeps 4 bytes for each pixel of color; its decoder and each conversion may take as much again.
MAX_PIXELS = 178_956_970

#: Notes about images with 16 bits, which are read as values from 0 to 65,535 whatever their largest value is.
_DARK = "nearly black: values of 16 bits are read as 0 to 65,535, and these are far smaller, so scale them"
_CUT_OFF = ReadNote("with values below 0 or above 65,535 cut off; scale them to 0 to 65,535")
#: The largest value of 14 bits. Cameras have 10 to 14 bits, and some programs save them in 16 without scaling.
_LARGEST_DARK = (1 << 14) - 1

#: File extensions of HEIF, which Pillow reads with a plug-in.
HEIF = (".heic", ".heif", ".hif")

#: Formats that Pillow recognizes but cannot decode by itself: stubs, and formats that need another program.
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")

#: A function from the (width, height) of an upright image to the factor, at least 1, by which its sides may shrink
#: while it is decoded.
Shrink = Callable[[tuple[int, int]], float]


class ImageError(ValueError):
    """An image that cannot be read. The message contains its path and the reason."""


class ImageSet(Protocol):
    """Labeled images, read one at a time.

    Attributes:
        class_names: names of the classes, in the order of their indices.
        labels: class index of every image.
        channels: 1 for gray images, 3 for color, 4 for color and transparency.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Sequence[int]: ...

    @property
    def channels(self) -> int: ...

    def name(self, index: int) -> str:
        """Return a name of the image for messages: its path, or its position in an array."""

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        """Read an image in the mode for ``channels``: ``L``, ``RGB`` or ``RGBA``.

        Args:
            index: of the image.
            shrink: lets the image be read at a smaller size. Sets that gain no speed by it may ignore it.

        Raises:
            ImageError: The image cannot be read.
        """


def read_image(
    path: str | Path,
    channels: int = 3,
    *,
    background: str = BACKGROUND,
    max_pixels: int = MAX_PIXELS,
    stored: bool = False,
    shrink: Shrink | None = None,
) -> Image.Image:
    """Decode the first frame of an image file, upright, in sRGB, as ``L``, ``RGB`` or ``RGBA``.

    Args:
        path: a file in any format that Pillow reads; HEIF too if the plug-in pillow-heif is installed.
        channels: 1, 3 or 4.
        background: a color that Pillow knows, for transparent pixels; four channels keep the transparency.
        max_pixels: limit of pixels, checked against the file's header before decoding.
        stored: keep the pixels as they are stored: do not apply the orientation, the color profile or the background.
        shrink: returns the factor, rounded down, by which the sides may shrink. A JPEG is decoded at 1/2, 1/4 or 1/8 of
            its sides, and the rest of the factor is reached by averaging; other formats are averaged only. It is
            called after the header is read and before the pixels are decoded.

    Returns:
        The image. :func:`volo.data.notes_of` returns what was noted about it, such as a missing end marker.

    Raises:
        ImageError: The file is missing, unreadable, truncated, too large or not an image.
    """
    with open_image(path, "image", max_pixels) as image:
        side, factor = max(image.size), 1 if shrink is None else int(shrink(upright_size(image)))

        def drafted(image: ImageFile) -> ImageFile:
            """Let the decoder shrink the image as far as it can."""
            if factor > 1:
                image.draft(None, (image.width // factor, image.height // factor))
            return image

        high_bytes = _keeps_high_bytes(image)
        notes = load_whole(drafted(image), lambda: drafted(_open(path, max_pixels)))
        notes = [*notes_of(image), *notes, *_depth_notes(image, high_bytes=high_bytes)]
        remaining = max(1, factor * max(image.size) // side)  # the part of the factor that is left for averaging
        if stored:
            result = image.convert(mode_of(channels))
        else:
            upright = apply_exif_orientation(image)
            if upright is not image:
                image.close()  # its pixels would take memory while the colors are converted
            result = as_channels(upright, channels, background)
        result = result if remaining == 1 else result.reduce(remaining)
        return attach_notes(result, notes)


def _keeps_high_bytes(image: ImageFile) -> bool:
    """Return whether Pillow keeps only the high byte of every 16-bit value, as it does for colors."""
    raw_modes = image.tile[0][3] if image.tile else None
    first = raw_modes if isinstance(raw_modes, str) else raw_modes[0] if raw_modes else None
    return isinstance(first, str) and ";16" in first and not image.mode.startswith("I")


def _depth_notes(image: Image.Image, *, high_bytes: bool) -> list[ReadNote]:
    """Return notes about a decoded image of 16 bits that uses few of their values, or has values beyond them.

    Args:
        image: the image.
        high_bytes: the image has the high bytes of 16-bit values.
    """
    if high_bytes:
        largest = max(int(np.asarray(image.getchannel(band)).max()) for band in image.getbands() if band != "A")
        low, high = 0, 256 * largest + 255 if largest else 0
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
    else:
        return []
    if low < 0 or high > 65_535:
        return [_CUT_OFF]
    return [ReadNote(_DARK, high)] if 0 < high <= _LARGEST_DARK else []


@contextmanager
def open_image(path: str | Path, kind: str, max_pixels: int) -> Iterator[ImageFile]:
    """Open an image and read its header; turn every error, also of the ``with`` block, into an ImageError.

    Pillow warns of unusual metadata in images that it reads without a problem. The warnings are left to the process's
    filters: these belong to all threads, so they cannot be changed for one image.

    Args:
        path: of the file.
        kind: "image" or "mask", for the error message.
        max_pixels: limit of pixels, checked against the header.

    Raises:
        ImageError: The file cannot be opened, or the ``with`` block raised an error.
    """
    try:
        with _open(path, max_pixels) as image:
            yield image
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise ImageError(f"cannot read {kind} {printable(path)}: {_reason(error, path)}") from error


def _open(path: str | Path, max_pixels: int) -> ImageFile:
    """Open an image, of which Pillow reads only the header.

    Raises:
        ValueError: The path is not a regular file, or it is a progressive JPEG of too many scans.
        DecompressionBombError: The image has more than ``max_pixels`` pixels.
        OSError: The file cannot be read or is not an image.
    """
    if Image.MAX_IMAGE_PIXELS and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        # Pillow refuses images of more than twice this number, which is a setting of the whole process. It is never
        # lowered, and raised only where the user allows larger images.
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would block
        raise ValueError("it is not a regular file")
    source, notes = pillow_source(path)
    try:
        image = Image.open(source)
    except Image.UnidentifiedImageError:
        if not _register_heif():
            raise
        image = Image.open(source)
    try:
        pixels = image.width * image.height
        if pixels > max_pixels:
            raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit of {max_pixels} pixels")
        check_scans(image, path)
    except BaseException:
        image.close()
        raise
    attach_notes(image, notes)
    return image


@cache
def _register_heif() -> bool:
    """Register the HEIF plug-in with Pillow; return whether it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _reason(error: Exception, path: str | Path) -> str:
    """Return one line that explains why an image cannot be read and, if possible, how to solve it."""
    if isinstance(error, Image.UnidentifiedImageError):
        if not Path(path).stat().st_size:
            return "the file is empty"
        if is_lfs_pointer(Path(path)):
            return "a Git LFS pointer instead of the image: run git lfs pull"
        heif = Path(path).suffix.lower() in HEIF and not _register_heif()
        return "not an image that Pillow can read" + ("; for HEIF: pip install pillow-heif" if heif else "")
    if isinstance(error, Image.DecompressionBombError):
        return f"{str(error).partition(',')[0]}; --max-pixels raises it (volo train: --data.max-pixels)"
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file holds only the text by which Git finds a large file.

    Raises:
        OSError: The file cannot be read.
    """
    start = b"version https://git-lfs"
    with path.open("rb") as file:
        return file.read(len(start)) == start


@cache
def image_extensions() -> frozenset[str]:
    """Return the file extensions, lower-case with the dot, of all image formats that this machine can read."""
    heif = _register_heif()
    known = Image.registered_extensions()
    readable = {ending for ending, kind in known.items() if kind in Image.OPEN and kind not in _NOT_DECODED}
    return frozenset(readable | set(HEIF)) if heif else frozenset(readable)


def check_class_names(names: Sequence[str]) -> None:
    """Check that every class name can be written in one line of text.

    Raises:
        ValueError: A name has control characters in it or is not valid UTF-8.
    """
    for name in names:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise ValueError(
                f"{printable(name)} cannot be the name of a class: it has line breaks or other control characters in "
                "it, or bytes that are not UTF-8; rename it"
            )


@dataclass(frozen=True)
class FileImages:
    """Labeled images in files, read with :func:`read_image`.

    Attributes:
        paths: of the files.
        labels: class index of every image.
        class_names: names of the classes, in the order of their indices.
        channels: 1 for gray images, 3 for color, 4 for color and transparency.
        background: a color that Pillow knows, for transparent pixels.
        max_pixels: images with more pixels, according to their headers, are not decoded.

    Raises:
        ValueError: A class name cannot be written in one line of text.
    """

    paths: Sequence[Path]
    labels: Sequence[int]
    class_names: tuple[str, ...]
    channels: int = 3
    background: str = BACKGROUND
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_class_names(self.class_names)

    def name(self, index: int) -> str:
        return printable(self.paths[index])

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        path, background, max_pixels = self.paths[index], self.background, self.max_pixels
        return read_image(path, self.channels, background=background, max_pixels=max_pixels, shrink=shrink)

    def taking(self, indices: Iterable[int]) -> "FileImages":
        """Return the images at these indices, in this order, with the same classes."""
        chosen = list(indices)
        return replace(self, paths=[self.paths[i] for i in chosen], labels=[self.labels[i] for i in chosen])


@dataclass(frozen=True)
class ArrayImages:
    """Labeled images in memory.

    Attributes:
        images: uint8, gray (N, H, W) or color (N, H, W, 3).
        labels: class index of every image.
        class_names: names of the classes, in the order of their indices.
    """

    images: np.ndarray
    labels: Sequence[int]
    class_names: tuple[str, ...]

    @property
    def channels(self) -> int:
        return 1 if self.images.ndim == 3 else 3

    def name(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return Image.fromarray(self.images[index])


class Converted:
    """The images of another set, converted to another number of channels."""

    def __init__(self, images: ImageSet, channels: int, background: str = BACKGROUND) -> None:
        self.images, self.channels, self.background = images, channels, background
        self.class_names, self.labels = images.class_names, images.labels

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        image = self.images.read(index, shrink)
        return attach_notes(as_channels(image, self.channels, self.background), notes_of(image))
