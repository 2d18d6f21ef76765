"""Read the images that a command was given."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from volo.data import ImageError, Preprocessing, read_image
from volo.inference.prefetch import map_in_threads


class ImageReader:
    """Iterate over images, and print a warning for each one that cannot be read.

    Args:
        paths: of the images.
        preprocessing: of the model, for channels and background.
        max_pixels: images with more pixels, according to their headers, are not decoded.
        strict: raise the error of an image that cannot be read.
        count: images that are decoded at a time, in threads.

    Attributes:
        good: paths of the images that have been returned so far.
        bad: number of images that could not be read.
    """

    def __init__(
        self, paths: Sequence[Path], preprocessing: Preprocessing, *, max_pixels: int, strict: bool, count: int = 1
    ) -> None:
        self.paths, self.count = paths, count
        self.strict = strict or len(paths) == 1  # no other image is left to continue with
        self.read = partial(
            read_image,
            channels=preprocessing.channels,
            background=preprocessing.background,
            max_pixels=max_pixels,
        )
        self.good: list[Path] = []
        self.bad = 0

    def __iter__(self) -> Iterator[Any]:
        for path, image in zip(self.paths, map_in_threads(self._read, self.paths, count=self.count), strict=True):
            if isinstance(image, ImageError):
                if self.strict:
                    raise image
                print(f"warning: {image}; left out", file=sys.stderr)
                self.bad += 1
            else:
                self.good.append(path)
                yield image

    def _read(self, path: Path) -> Image.Image | ImageError:
        try:
            return self.read(path)
        except ImageError as error:
            return error

    def report(self) -> int:
        """Print how many images could not be read. Returns the exit code, 0."""
        if self.bad:
            print(f"warning: {self.bad} of {len(self.paths)} images could not be read", file=sys.stderr)
        return 0
