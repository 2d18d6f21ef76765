"""Reading the images that a command was given, one after the other."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from volo.data import (
    ImageError,
    Preprocessing,
    read_image,
)
from volo.inference.prefetch import map_in_threads


class ImageReader:
    """Reads images, ``count`` at a time, warning of those that cannot be read.

    Attributes:
        good: paths of the images given out so far. bad: how many could not be read.
    """

    def __init__(
        self, paths: Sequence[Path], preprocessing: Preprocessing, *, max_pixels: int, strict: bool, count: int = 1
    ) -> None:
        self.paths, self.count = paths, count
        self.strict = strict or len(paths) == 1  # there is no other image to go on with
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
        """Say how many images could not be read; the exit code."""
        if self.bad:
            print(f"warning: {self.bad} of {len(self.paths)} images could not be read", file=sys.stderr)
        return 0
