"""Sets of labeled images, and reading one image."""

import stat
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from volo.data.color_modes import BACKGROUND, as_channels, load_upright, mode_of, upright_size
from volo.messages import printable

#: The most pixels that are decoded unless asked otherwise, which is Pillow's own limit: 179 megapixels take half a GB.
MAX_PIXELS = 178_956_970

#: Endings of HEIF, which Pillow reads with a plug-in.
HEIF = (".heic", ".heif", ".hif")

#: What Pillow recognizes but cannot decode by itself: stubs, and kinds that need another program.
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


#: From the (width, height) of an upright image, before it is decoded: by how much its sides may shrink, at least 1.
Shrink = Callable[[tuple[int, int]], float]


class ImageError(ValueError):
    """An image that cannot be read; the message names it and says why."""


class ImageSet(Protocol):
    """Labeled images, read one at a time.

    Attributes:
        class_names: the classes in the order of their indices.
        labels: the class index of every image.
        channels: 1 for gray images, 3 for color, 4 for color and transparency.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Sequence[int]: ...

    @property
    def channels(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call an image where a person looks: its path, or its place in an array."""

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        """The image, mode ``L``, ``RGB`` or ``RGBA`` as ``channels`` says. Raises ImageError.

        Sets that can read it faster at a smaller size ask ``shrink``; others need not.
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
    """Decode the first picture of an image file, upright, in sRGB, as ``L``, ``RGB`` or ``RGBA``.

    Args:
        path: any kind of file that Pillow reads, and HEIF where the plug-in pillow-heif is installed.
        channels: 1, 3 or 4.
        background: a color as Pillow names them, behind transparent pixels; four channels keep transparency.
        max_pixels: more, by the file's header, are not decoded.
        stored: the pixels as the file has them: not turned, not brought into sRGB, no background.
        shrink: how small a version will do. A JPEG is then decoded at a half, a quarter or an eighth of its sides, and
            what is left of the factor, rounded down, is averaged away.

    Raises:
        ImageError: the file is missing, unreadable, truncated, too large or no image.
    """
    with open_image(path, "image", max_pixels) as image:
        factor = 1 if shrink is None else _draft(image, shrink)
        image.load()
        result = image.convert(mode_of(channels)) if stored else load_upright(image, channels, background)
        return result if factor == 1 else result.reduce(factor)


@contextmanager
def open_image(path: str | Path, what: str, max_pixels: int) -> Iterator[Image.Image]:
    """The image with its header read; whatever goes wrong with it is an ImageError that names ``what`` and the path."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities inside files (EXIF, palettes) that do not keep them from being read.
            warnings.simplefilter("ignore")
            with _open(path, max_pixels) as image:
                yield image
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise ImageError(f"cannot read {what} {printable(path)}: {_reason(error, path)}") from error


def _draft(image: Image.Image, shrink: Shrink) -> int:
    """Let the decoder shrink the image as far as it can and may; what is left to be reduced."""
    side, factor = max(image.size), int(shrink(upright_size(image)))
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    return max(1, factor * max(image.size) // side)


def _open(path: str | Path, max_pixels: int) -> Image.Image:
    """The image with its header read."""
    if Image.MAX_IMAGE_PIXELS and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        # Pillow refuses twice this number. It is a setting of the whole process: never lowered, and raised only here,
        # where a person asked for more.
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
        raise ValueError("it is no regular file")
    try:
        image = Image.open(path)
    except Image.UnidentifiedImageError:
        if not _register_heif():
            raise
        image = Image.open(path)
    pixels = image.width * image.height
    if pixels > max_pixels:
        image.close()
        raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit of {max_pixels} pixels")
    return image


@cache
def _register_heif() -> bool:
    """Let Pillow read HEIF, where the plug-in is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _reason(error: Exception, path: str | Path) -> str:
    """One line on why an image cannot be read, and what to do where something can be done."""
    if isinstance(error, Image.UnidentifiedImageError):
        if not Path(path).stat().st_size:
            return "the file is empty"
        heif = Path(path).suffix.lower() in HEIF and not _register_heif()
        return "not an image that Pillow can read" + ("; for HEIF: pip install pillow-heif" if heif else "")
    if isinstance(error, Image.DecompressionBombError):
        return f"{str(error).partition(',')[0]}; --max-pixels raises it (in training --data.max_pixels)"
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


@cache
def image_extensions() -> frozenset[str]:
    """Lower-case endings of the kinds of image files that can be read here, each with its dot."""
    heif = _register_heif()
    known = Image.registered_extensions()
    readable = {ending for ending, kind in known.items() if kind in Image.OPEN and kind not in _NOT_DECODED}
    return frozenset(readable | set(HEIF)) if heif else frozenset(readable)


def check_class_names(names: Sequence[str]) -> None:
    """See that names of classes can stand in a line of text.

    Raises:
        ValueError: one cannot.
    """
    for name in names:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise ValueError(
                f"{printable(name)} cannot be the name of a class: it has line breaks or other control characters in "
                "it, or bytes that are no UTF-8; rename it"
            )


@dataclass(frozen=True)
class FileImages:
    """Images in files, read as :func:`read_image` does.

    Raises:
        ValueError: the name of a class is not what a line of text can hold.
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


@dataclass(frozen=True)
class ArrayImages:
    """Gray images (N, H, W) or color images (N, H, W, 3) in memory, uint8."""

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
    """Images of another set, in other channels."""

    def __init__(self, images: ImageSet, channels: int, background: str = BACKGROUND) -> None:
        self.images, self.channels, self.background = images, channels, background
        self.class_names, self.labels = images.class_names, images.labels

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return as_channels(self.images.read(index, shrink), self.channels, self.background)
