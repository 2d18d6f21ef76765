"""Sets of labelled images, and reading one image."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps


class ImageError(ValueError):
    """An image that cannot be read; the message names it and says why."""


class ImageSet(Protocol):
    """Labelled images, read one at a time.

    Attributes:
        class_names: the classes in the order of their indices.
        labels: the class index of every image.
        channels: 1 for grey images, 3 for colour.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Sequence[int]: ...

    @property
    def channels(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call an image where a person looks: its path, or its place in an array."""

    def read(self, index: int) -> Image.Image:
        """The image, mode ``L`` or ``RGB`` as ``channels`` says. Raises ImageError."""


def read_image(path: str | Path, channels: int = 3) -> Image.Image:
    """Decode an image file, turned upright by its EXIF orientation, as ``L`` (1 channel) or ``RGB`` (3).

    Raises:
        ImageError: the file is missing, unreadable, truncated or no image.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities inside files (EXIF, palettes) that do not keep them from being read.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return upright(image, channels)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ImageError(f"cannot read image {path}: {getattr(reason, 'strerror', None) or reason}") from error


def upright(image: Image.Image, channels: int) -> Image.Image:
    """The image turned as its EXIF orientation says, as grey (1 channel) or RGB (3)."""
    return as_channels(ImageOps.exif_transpose(image), channels)


def as_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image as grey (1 channel) or RGB (3)."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would cut 16-bit values off at 255.
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


@dataclass(frozen=True)
class FileImages:
    """Colour images in files."""

    paths: Sequence[Path]
    labels: Sequence[int]
    class_names: tuple[str, ...]
    channels: int = 3

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def read(self, index: int) -> Image.Image:
        return read_image(self.paths[index], self.channels)


@dataclass(frozen=True)
class ArrayImages:
    """Grey images (N, H, W) or colour images (N, H, W, 3) in memory, uint8."""

    images: np.ndarray
    labels: Sequence[int]
    class_names: tuple[str, ...]

    @property
    def channels(self) -> int:
        return 1 if self.images.ndim == 3 else 3

    def name(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


class Converted:
    """Images of another set, turned grey (1 channel) or to colour (3)."""

    def __init__(self, images: ImageSet, channels: int) -> None:
        self.images, self.channels = images, channels
        self.class_names, self.labels = images.class_names, images.labels

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int) -> Image.Image:
        return as_channels(self.images.read(index), self.channels)
