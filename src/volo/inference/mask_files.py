"""A folder with the segmentations of many images."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from volo.csv_files import path_cell, write_csv
from volo.data import Color
from volo.files import atomic_write
from volo.inference.mask_pictures import legend
from volo.inference.segmenter import Segmentation
from volo.messages import printable
from volo.outputs import check_output_folder

#: The two subfolders and the two files of the folder.
MASKS, OVERLAYS, LEGEND, SHARES = "masks", "overlays", "legend.png", "shares.csv"


class MaskFolder:
    """A folder with a mask and an overlay for each image, a legend, and a table of class shares.

    ``masks/*.png`` contain class indices, with the class colors as a palette. ``overlays/*.jpg`` are for people; large
    images are reduced in size. ``shares.csv`` has a row for each image with the share of pixels of each class. Masks
    and overlays have the names and subfolders of their images.

    Each file is written completely or not at all. If the work ends early, legend and table are still written, and the
    table contains the finished images.

    Args:
        folder: target folder, created if it does not exist.
        paths: paths of all images that may be written.
        class_names: names of the model's classes.
        class_colors: (red, green, blue) of each class, 0–255.
        overwrite: replace existing files.

    Raises:
        ValueError: The folder is a file or is not writable, or files to write exist and ``overwrite`` is False.
    """

    def __init__(
        self,
        folder: Path,
        paths: Sequence[Path],
        class_names: Sequence[str],
        class_colors: Sequence[Color],
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.class_names, self.class_colors = folder, class_names, class_colors
        self._names = output_names(paths)
        self._done: list[tuple[Path, tuple[float, ...]]] = []
        pictures = (place for path in paths for place in (self._mask(path), self._overlay(path)))
        names = [LEGEND, SHARES, *(str(place.relative_to(folder)) for place in pictures)]
        check_output_folder(folder, names, overwrite=overwrite, inputs=paths)

    def __enter__(self) -> "MaskFolder":
        return self

    def __exit__(self, *error: object) -> None:
        if self._done:
            self._write_table()

    def write(self, path: Path, image: Image.Image, segmentation: Segmentation) -> None:
        """Write mask and overlay of the image at ``path``."""
        mask, overlay = self._mask(path), self._overlay(path)
        with ExitStack() as stack:  # both temporary files are renamed, or none
            for place in (mask, overlay):
                place.parent.mkdir(parents=True, exist_ok=True)
            first, second = (stack.enter_context(atomic_write(place)) for place in (mask, overlay))
            segmentation.to_pil().save(first, format="PNG")
            segmentation.overlay(image).save(second, format="JPEG", quality=90, subsampling=0)
        self._done.append((path, segmentation.shares))

    def _mask(self, path: Path) -> Path:
        return self.folder / MASKS / f"{self._names[path]}.png"

    def _overlay(self, path: Path) -> Path:
        return self.folder / OVERLAYS / f"{self._names[path]}.jpg"

    def _write_table(self) -> None:
        with atomic_write(self.folder / LEGEND) as picture, atomic_write(self.folder / SHARES) as table:
            legend(self.class_names, self.class_colors).save(picture, format="PNG")
            rows = ([path_cell(printable(path)), *(f"{share:.6f}" for share in shares)] for path, shares in self._done)
            write_csv(table, ["image", *self.class_names], rows)


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the names of the output files of each image, without endings.

    A name is the image's path relative to the common folder of all images, without its ending. Images that differ only
    in their endings keep them.
    """
    absolute = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100  # links are not followed
    if not absolute:
        return {}
    common = Path(os.path.commonpath([place.parent for place in absolute.values()]))
    relative = {path: place.relative_to(common) for path, place in absolute.items()}
    counts = Counter(place.with_suffix("") for place in set(relative.values()))
    return {
        path: str(place if counts[place.with_suffix("")] > 1 else place.with_suffix(""))
        for path, place in relative.items()
    }
