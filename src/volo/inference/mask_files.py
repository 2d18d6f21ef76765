"""Segmentations of many images as a folder of files."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from volo.data import Color
from volo.files import atomic_write, check_writable_folder
from volo.inference.mask_pictures import legend
from volo.inference.segmenter import Segmentation
from volo.messages import printable

#: Where masks and overlays go within the folder, and the two files beside them.
MASKS, OVERLAYS, LEGEND, SHARES = "masks", "overlays", "legend.png", "shares.csv"


class MaskFolder:
    """A folder with a mask and an overlay for each image, a legend, and a table of class shares.

    Every file is written whole or not at all. Should the work end early, the table is of the images that are done.

    ``masks/*.png`` hold indices of classes, and their colors as a palette; ``overlays/*.jpg`` are for a person to see,
    large images made smaller; ``shares.csv`` has a line for every image, with each class's share of its pixels. Files
    are called as their images are, in folders as those are.

    Args:
        folder: made where there is none.
        paths: of all images that may come.
        class_names: of the model.
        class_colors: likewise.
        overwrite: replace files of earlier calls.

    Raises:
        ValueError: the folder is a file or not writable, or there are such files and ``overwrite`` is not set.
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
        check_writable_folder(folder)
        self.folder, self.class_names, self.class_colors = folder, class_names, class_colors
        self._names = output_names(paths)
        self._done: list[tuple[Path, tuple[float, ...]]] = []
        targets = [folder / LEGEND, folder / SHARES, *(self._mask(path) for path in paths)]
        present = [path for path in targets if path.exists()]
        if present and not overwrite:
            raise ValueError(
                f"{printable(present[0])} is there already"
                + (f", and {len(present) - 1:,} more of the files to write" if len(present) > 1 else "")
                + "; name another --output, or add --overwrite"
            )

    def __enter__(self) -> "MaskFolder":
        return self

    def __exit__(self, *error: object) -> None:
        if self._done:
            self._write_table()

    def write(self, path: Path, image: Image.Image, segmentation: Segmentation) -> None:
        """Write what was found on the image of ``path``."""
        mask, overlay = self._mask(path), self.folder / OVERLAYS / f"{self._names[path]}.jpg"
        with ExitStack() as stack:  # both files get their names, or none
            for place in (mask, overlay):
                place.parent.mkdir(parents=True, exist_ok=True)
            first, second = (stack.enter_context(atomic_write(place)) for place in (mask, overlay))
            segmentation.to_pil().save(first, format="PNG")
            segmentation.overlay(image).save(second, format="JPEG", quality=90, subsampling=0)
        self._done.append((path, segmentation.shares))

    def _mask(self, path: Path) -> Path:
        return self.folder / MASKS / f"{self._names[path]}.png"

    def _write_table(self) -> None:
        with atomic_write(self.folder / LEGEND) as picture, atomic_write(self.folder / SHARES) as table:
            legend(self.class_names, self.class_colors).save(picture, format="PNG")
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["image", *self.class_names])
                for path, shares in self._done:
                    writer.writerow([printable(path), *(f"{share:.6f}" for share in shares)])


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """For each image the name of its files, without their endings: its path below the folder that all have in common.

    Images of one name and different endings keep these.
    """
    whole = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100  # links are not followed
    if not whole:
        return {}
    common = Path(os.path.commonpath([place.parent for place in whole.values()]))
    relative = {path: place.relative_to(common) for path, place in whole.items()}
    alike = Counter(place.with_suffix("") for place in set(relative.values()))
    return {
        path: str(place if alike[place.with_suffix("")] > 1 else place.with_suffix(""))
        for path, place in relative.items()
    }
