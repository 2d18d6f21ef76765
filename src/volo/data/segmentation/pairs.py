"""Pairs of image files and mask files, and checks of such pairs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from volo.data.color_modes import BACKGROUND, upright_size
from volo.data.find import images_below
from volo.data.images import MAX_PIXELS, ImageError, open_image, read_image
from volo.data.segmentation.classes import IGNORE, MaskClasses
from volo.data.segmentation.formats.masks import MaskError, read_mask
from volo.messages import join_few, printable

#: Number of masks that are decoded and checked before training starts.
INSPECTED_MASKS = 200


@dataclass(frozen=True)
class MaskedImages:
    """Images with masks that hold the class of every pixel.

    Attributes:
        image_paths: of the images.
        mask_paths: of their masks, in the same order.
        classes: names, values and colors of the classes.
        palette: read the classes of masks from their colors instead of their values.
        channels: 1 for gray images, 3 for color, 4 for color and transparency.
        background: a color that Pillow knows, for transparent pixels of images.
        max_pixels: images and masks with more pixels, according to their headers, are not decoded.
    """

    image_paths: Sequence[Path]
    mask_paths: Sequence[Path]
    classes: MaskClasses
    palette: bool = False
    channels: int = 3
    background: str = BACKGROUND
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.image_paths)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return self.classes.names

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Upright (width, height) of every image, from its header; (0, 0) if it cannot be read."""
        return [_size(path, self.max_pixels) for path in self.image_paths]

    def name(self, index: int) -> str:
        """Return the path of an image in printable characters."""
        return printable(self.image_paths[index])

    def read(self, index: int) -> Image.Image:
        """Read an image in the mode for ``channels``: ``L``, ``RGB`` or ``RGBA``.

        Raises:
            ImageError: The image cannot be read.
        """
        path, background, max_pixels = self.image_paths[index], self.background, self.max_pixels
        return read_image(path, self.channels, background=background, max_pixels=max_pixels)

    def read_mask(self, index: int) -> np.ndarray:
        """Read a mask as (H, W) uint8: indices of ``class_names`` or ``IGNORE``.

        Raises:
            MaskError: The mask has values or colors of no class, or is not a mask.
            ImageError: The mask cannot be read.
        """
        path = self.mask_paths[index]
        return read_mask(path, self.classes, palette=self.palette, max_pixels=self.max_pixels)

    def read_pair(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Read an image and its mask, which have the same size.

        Raises:
            MaskError: The mask is not valid (see :meth:`read_mask`), or its size differs from the image's.
            ImageError: The image or the mask cannot be read.
        """
        image, mask = self.read(index), self.read_mask(index)
        if image.size != mask.shape[::-1]:
            raise MaskError(_size_error(self.mask_paths[index], mask.shape[::-1], self.name(index), image.size))
        return image, mask

    def taking(self, indices: Iterable[int]) -> "MaskedImages":
        """Return the pairs at these indices, in this order."""
        chosen = list(indices)
        images, masks = [self.image_paths[i] for i in chosen], [self.mask_paths[i] for i in chosen]
        return replace(self, image_paths=images, mask_paths=masks)


#: Split → the function that opens it.
PairSplits = Mapping[str, Callable[[], MaskedImages]]


def match_pairs(images: Path, masks: Path, image_ending: str, mask_endings: Sequence[str]) -> list[tuple[Path, Path]]:
    """Match the images below one folder with the masks below another by their relative paths.

    Args:
        images: folder of the images.
        masks: folder of the masks.
        image_ending: ending of the names of images, before the file extension; files without it are skipped.
        mask_endings: possible endings of the names of masks; the one that gives the most pairs is used.

    Returns:
        (path of the image, path of the mask) of every pair.

    Raises:
        ValueError: There are no pairs, an image has no mask, a mask has no image, or two files have the same name.
    """
    image_paths = _by_name(images, image_ending)
    candidates = [_by_name(masks, ending) for ending in mask_endings]
    mask_paths = max(candidates, key=lambda found: len(found.keys() & image_paths.keys()))
    for folder, found in ((images, image_paths), (masks, mask_paths)):
        if not found:
            raise ValueError(f"there are no {'images' if folder == images else 'masks'} in {printable(folder)}")
    if not image_paths.keys() & mask_paths.keys():
        raise ValueError(
            f"no image in {printable(images)} and mask in {printable(masks)} have the same name, for instance "
            f"{printable(next(iter(image_paths.values())))} and {printable(next(iter(mask_paths.values())))}"
        )
    _check_partners(image_paths, mask_paths, "image", f"mask in {printable(masks)}; add it, or remove the image")
    _check_partners(mask_paths, image_paths, "mask", f"image in {printable(images)}; add it, or remove the mask")
    return [(path, mask_paths[name]) for name, path in image_paths.items()]


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Return {relative path without ``ending`` and file extension: path} of the images below ``folder``."""
    found: dict[str, Path] = {}
    for path in images_below(folder):
        if not path.stem.endswith(ending):
            continue
        name = path.relative_to(folder).with_name(path.stem.removesuffix(ending)).as_posix()
        if found.setdefault(name, path) != path:
            raise ValueError(f"{printable(found[name])} and {printable(path)} have the same name; keep one of them")
    return found


def _check_partners(files: Mapping[str, Path], partners: Mapping[str, Path], kind: str, missing: str) -> None:
    alone = [printable(path) for name, path in files.items() if name not in partners]
    if alone:
        verb = "s have" if len(alone) > 1 else " has"
        raise ValueError(f"{len(alone):,} {kind}{verb} no {missing}: {join_few(alone)}")


def check_sizes(images: MaskedImages) -> None:
    """Check that every image and its mask have the same size, according to their headers.

    Raises:
        ValueError: The sizes of a pair differ.
    """
    wrong = []
    for index, size in enumerate(images.sizes):
        mask = _size(images.mask_paths[index], images.max_pixels)
        if mask != size and (0, 0) not in (mask, size):  # unreadable files are reported when they are read
            wrong.append(_size_error(images.mask_paths[index], mask, images.name(index), size))
    if wrong:
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}; make every mask as large as its image")


def _size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Return the upright (width, height) from the header, or (0, 0) if the file cannot be read."""
    try:
        with open_image(path, "image", max_pixels) as image:
            # For a PNG without EXIF data at its start, Pillow would decode the whole image to look for EXIF data at
            # its end, where they almost never are.
            return image.size if image.format == "PNG" and "exif" not in image.info else upright_size(image)
    except ImageError:
        return 0, 0


def _size_error(mask: Path, mask_size: Sequence[int], image: str, image_size: Sequence[int]) -> str:
    rotated = " after its EXIF orientation is applied" if tuple(mask_size) == tuple(image_size)[::-1] else ""
    sizes = [f"{width}×{height}" for width, height in (mask_size, image_size)]
    return f"mask {printable(mask)} has {sizes[0]} pixels, its image {image} {sizes[1]}{rotated}"


def inspect_masks(images: MaskedImages, name: str, *, most: int = INSPECTED_MASKS) -> list[str]:
    """Decode and check a sample of the masks, evenly spaced, to find errors before hours of training.

    Args:
        images: pairs for training or evaluation.
        name: of the pairs, for messages.
        most: number of masks to decode. If they show only one class, more are decoded until a second class is found.

    Returns:
        Warnings, one line each.

    Raises:
        MaskError: A mask has values or colors of no class, or is not a mask.
        ValueError: The readable masks show fewer than two classes.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    remaining = np.setdiff1d(np.arange(len(images)), chosen)
    void, seen = [], np.zeros(len(images.class_names), np.int64)
    readable = 0
    for place, index in enumerate([*chosen, *remaining]):
        if place >= len(chosen) and (not readable or np.count_nonzero(seen) > 1):
            break  # the remaining masks are needed only to find a second class, which may be in few of them
        try:
            counts = count_classes(images.read_mask(index), len(images.class_names))
        except MaskError:
            raise
        except ImageError:
            continue  # training and evaluation report unreadable masks themselves
        readable += 1
        seen += counts
        if not counts.any():
            void.append(printable(images.mask_paths[index]))
    if readable and (problem := too_few_classes(seen, images.classes)):
        raise ValueError(f"{name}: {problem}")
    return [f"{len(void):,} masks of {name} are void: {join_few(void)}"] if void else []


def count_classes(mask: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each class in a mask (H, W) uint8; return (classes,) int64."""
    return np.bincount(mask.reshape(-1), minlength=IGNORE + 1)[:classes]


def too_few_classes(counts: np.ndarray, classes: MaskClasses) -> str | None:
    """Return an error message if the masks show fewer than two classes, else None.

    Args:
        counts: (classes,) pixels of each class in all masks.
        classes: of the masks.
    """
    present = np.flatnonzero(counts)
    if len(present) > 1:
        return None
    ignored = join_few(value for value, index in classes.values.items() if index == IGNORE)
    problem = f"every pixel is of one class, {classes.names[present[0]]!r}" if len(present) else "every pixel is void"
    return f"{problem}; two classes are needed (ignored, unless the classes file gives it a class: {ignored})"


def split_pairs(images: MaskedImages, val_fraction: float, seed: int) -> tuple[MaskedImages, MaskedImages]:
    """Split the pairs at random, with at least one on either side.

    Args:
        images: pairs to split.
        val_fraction: share of the pairs that goes to the second result, in (0, 1).
        seed: of the random choice.

    Raises:
        ValueError: The fraction is not in (0, 1), or there is only one pair.
    """
    if not 0.0 < val_fraction < 1.0:
        raise ValueError(f"the fraction for validation must lie between 0 and 1, not {val_fraction}")
    if len(images) < 2:
        raise ValueError("one image with its mask is too few to split for training and validation; add more")
    order = np.random.default_rng(seed).permutation(len(images))
    held_out = min(max(1, round(val_fraction * len(images))), len(images) - 1)
    return images.taking(sorted(order[held_out:])), images.taking(sorted(order[:held_out]))
