"""Read the images that a command was given."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from volo.cli.ui.terminal import warn
from volo.data import ImageError, Preprocessing, read_image
from volo.data.images import Shrink
from volo.data.read_notes import NamedNote, named_notes, summarize_notes
from volo.inference.prefetch import PixelGate, map_in_threads
from volo.messages import printable


class _Read(NamedTuple):
    """A prepared image, and the notes about its file."""

    image: Any
    notes: tuple[NamedNote, ...]


class ImageReader:
    """Iterate over images, and print a warning for each one that cannot be read.

    Args:
        paths: of the images.
        preprocessing: of the model, for channels and background.
        max_pixels: images with more pixels, according to their headers, are not decoded.
        strict: raise the error of an image that cannot be read.
        count: images that are read at a time, in threads.
        prepare: function of the decoded image that returns what is iterated over. It runs in the thread that decodes,
            so that only its results are kept in memory; None keeps the decoded images.

    Attributes:
        good: paths of the images that have been returned so far.
        bad: number of images that could not be read or used.
        notes: remarks about images that were read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocessing: Preprocessing,
        *,
        max_pixels: int,
        strict: bool,
        count: int = 1,
        prepare: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.paths, self.count = paths, count
        self.strict = strict or len(paths) == 1  # no other image is left to continue with
        self.read = partial(
            read_image,
            channels=preprocessing.channels,
            background=preprocessing.background,
            max_pixels=max_pixels,
        )
        self.prepare, self.gate = prepare, PixelGate()
        self.good: list[Path] = []
        self.bad = 0
        self.notes: list[NamedNote] = []

    def __iter__(self) -> Iterator[Any]:
        for path, result in zip(self.paths, map_in_threads(self._read, self.paths, count=self.count), strict=True):
            if isinstance(result, ImageError):
                self._leave_out(result)
            else:
                self.good.append(path)
                self.notes += result.notes
                yield result.image

    def _read(self, path: Path) -> _Read | ImageError:
        try:
            with self.gate.place() as wait:
                return self._prepared(path, wait)  # whose variables, among them the whole image, end here
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError(f"cannot read image {printable(path)}: not enough memory")

    def _prepared(self, path: Path, wait: Shrink) -> _Read:
        image = self.read(path, shrink=wait)
        return _Read(self.prepare(image) if self.prepare else image, named_notes(printable(path), image))

    def leave_out_last(self, reason: object) -> None:
        """Leave out the image that was returned last, because it cannot be used.

        Raises:
            ImageError: No image may be left out.
        """
        self._leave_out(ImageError(f"cannot use image {printable(self.good.pop())}: {reason}"))

    def _leave_out(self, error: ImageError) -> None:
        if self.strict:
            raise error
        warn(f"{error}; left out")
        self.bad += 1

    def report(self) -> int:
        """Print what was noted about images, and how many could not be read. Returns the exit code, 0."""
        for line in summarize_notes(self.notes):
            warn(line)
        if self.bad:
            warn(f"{self.bad} of {len(self.paths)} images could not be read")
        return 0
