"""Images with their masks, in files; and what is wrong with such pairs."""

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

#: Masks that are decoded before a training, to see whether they are what they should be.
LOOKED_AT = 200


@dataclass(frozen=True)
class MaskedImages:
    """Images and the masks of their pixels' classes.

    Attributes:
        image_paths: of every image.
        mask_paths: of its mask.
        classes: what the values of masks stand for.
        palette: masks are read by their colors.
        channels: 1 for gray images, 3 for color, 4 for color and transparency.
        background: a color as Pillow names them, behind transparent pixels of images.
        max_pixels: images and masks of more, by their headers, are not decoded.
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
        """In the order of their indices."""
        return self.classes.names

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of every image by its header, upright; (0, 0) where it cannot be read."""
        return [_size(path, self.max_pixels) for path in self.image_paths]

    def name(self, index: int) -> str:
        """The path of an image as people see it."""
        return printable(self.image_paths[index])

    def read(self, index: int) -> Image.Image:
        """The image, mode ``L``, ``RGB`` or ``RGBA`` as ``channels`` says. Raises ImageError."""
        path, background, max_pixels = self.image_paths[index], self.background, self.max_pixels
        return read_image(path, self.channels, background=background, max_pixels=max_pixels)

    def read_mask(self, index: int) -> np.ndarray:
        """(H, W) uint8, indices of ``class_names`` or ``IGNORE``. Raises ImageError, or MaskError as ``read_mask``."""
        path = self.mask_paths[index]
        return read_mask(path, self.classes, palette=self.palette, max_pixels=self.max_pixels)

    def read_pair(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """The image and its mask, which have one size. Raises ImageError, or MaskError where they have not."""
        image, mask = self.read(index), self.read_mask(index)
        if image.size != mask.shape[::-1]:
            raise MaskError(_unequal(self.mask_paths[index], mask.shape[::-1], self.name(index), image.size))
        return image, mask

    def taking(self, indices: Iterable[int]) -> "MaskedImages":
        """Some of the pairs, in this order."""
        chosen = list(indices)
        images, masks = [self.image_paths[i] for i in chosen], [self.mask_paths[i] for i in chosen]
        return replace(self, image_paths=images, mask_paths=masks)


#: Part → what opens it.
PairSplits = Mapping[str, Callable[[], MaskedImages]]


def matched(images: Path, masks: Path, image_ending: str, mask_endings: Sequence[str]) -> list[tuple[Path, Path]]:
    """The images below one folder and their masks below another, by their paths there.

    Args:
        images: folder.
        masks: folder.
        image_ending: of every image's name, before the dot; what has another is passed over.
        mask_endings: likewise, of which that is taken that most masks of images have.

    Raises:
        ValueError: there is no pair, an image without a mask or the other way round, or two files of one name.
    """
    pictures = _by_name(images, image_ending)
    candidates = [_by_name(masks, ending) for ending in mask_endings]
    drawings = max(candidates, key=lambda found: len(found.keys() & pictures.keys()))
    for folder, found in ((images, pictures), (masks, drawings)):
        if not found:
            raise ValueError(f"there are no {'images' if folder == images else 'masks'} in {printable(folder)}")
    if not pictures.keys() & drawings.keys():
        raise ValueError(
            f"there is no pair in {printable(images)} and {printable(masks)}: no mask has the name of an image, for "
            f"instance {printable(next(iter(pictures.values())))} and {printable(next(iter(drawings.values())))}"
        )
    _check_partners(pictures, drawings, "image", f"mask in {printable(masks)}; add it, or remove the image")
    _check_partners(drawings, pictures, "mask", f"image in {printable(images)}; add it, or remove the mask")
    return [(path, drawings[name]) for name, path in pictures.items()]


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Images by their paths below ``folder``, without what follows the dot and without ``ending`` before it."""
    found: dict[str, Path] = {}
    for path in images_below(folder):
        if not path.stem.endswith(ending):
            continue
        name = path.relative_to(folder).with_name(path.stem.removesuffix(ending)).as_posix()
        if found.setdefault(name, path) != path:
            raise ValueError(f"{printable(found[name])} and {printable(path)} have one name; keep one of them")
    return found


def _check_partners(those: Mapping[str, Path], others: Mapping[str, Path], what: str, lack: str) -> None:
    alone = [printable(path) for name, path in those.items() if name not in others]
    if alone:
        raise ValueError(f"{len(alone):,} {what}{'s have' if len(alone) > 1 else ' has'} no {lack}: {join_few(alone)}")


def check_sizes(images: MaskedImages) -> None:
    """Compare the sizes of images and masks by their headers.

    Raises:
        ValueError: they differ.
    """
    wrong = []
    for index, size in enumerate(images.sizes):
        mask = _size(images.mask_paths[index], images.max_pixels)
        if mask != size and (0, 0) not in (mask, size):  # what cannot be read is said when it is read
            wrong.append(_unequal(images.mask_paths[index], mask, images.name(index), size))
    if wrong:
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}; make every mask as large as its image")


def _size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height), upright, by the header; (0, 0) where it cannot be read."""
    try:
        with open_image(path, "image", max_pixels) as image:
            # Pillow would decode a whole PNG to see whether its metadata come last, which is next to never.
            return image.size if image.format == "PNG" and "exif" not in image.info else upright_size(image)
    except ImageError:
        return 0, 0


def _unequal(mask: Path, size: Sequence[int], image: str, other: Sequence[int]) -> str:
    turned = ", once turned as its EXIF says" if tuple(size) == tuple(other)[::-1] else ""
    return f"mask {printable(mask)} has {size[0]}×{size[1]} pixels, its image {image} {other[0]}×{other[1]}{turned}"


def inspect_masks(images: MaskedImages, name: str, *, most: int = LOOKED_AT) -> list[str]:
    """Decode some masks, evenly out of all, to see before hours of work whether they are what they should be.

    Args:
        images: pairs that will be trained on, or judged by.
        name: what to call them in messages.
        most: how many masks to decode; more, where these show one class alone.

    Returns:
        What is odd and can be lived with, a line for each kind.

    Raises:
        ValueError: a mask has values or colors that stand for nothing or another size than its image; or all that can
            be read are void, or show one class alone.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    others = np.setdiff1d(np.arange(len(images)), chosen)
    void, seen = [], np.zeros(len(images.class_names), np.int64)
    readable = 0
    for place, index in enumerate([*chosen, *others]):
        if place >= len(chosen) and (not readable or np.count_nonzero(seen) > 1):
            break  # the rest is looked at for a second class only, since a rare one may be in few masks
        try:
            counts = count_classes(images.read_mask(index), len(images.class_names))
        except MaskError:
            raise
        except ImageError:
            continue  # is named, left out and counted when its turn comes
        readable += 1
        seen += counts
        if not counts.any():
            void.append(printable(images.mask_paths[index]))
    if readable and (problem := lacking(seen, images.classes)):
        raise ValueError(f"{name}: {problem}")
    return [f"{len(void):,} masks of {name} are void: {join_few(void)}"] if void else []


def count_classes(mask: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) int64: the pixels of each class in a mask (H, W) uint8."""
    return np.bincount(mask.reshape(-1), minlength=IGNORE + 1)[:classes]


def lacking(counts: np.ndarray, classes: MaskClasses) -> str | None:
    """Why nothing can be learned from masks with (classes,) pixels of each class: None, or what is missing."""
    present = np.flatnonzero(counts)
    if len(present) > 1:
        return None
    ignored = join_few(value for value, index in classes.values.items() if index == IGNORE)
    what = f"every pixel is of one class, {classes.names[present[0]]!r}" if len(present) else "every pixel is void"
    return f"{what}; two classes are needed (ignored, unless the file of classes names it: {ignored})"


def split_pairs(images: MaskedImages, val_fraction: float, seed: int) -> tuple[MaskedImages, MaskedImages]:
    """Part the pairs at random, at least one on either side.

    Raises:
        ValueError: the fraction is not inside (0, 1), or there is one pair only.
    """
    if not 0.0 < val_fraction < 1.0:
        raise ValueError(f"the fraction for validation must lie between 0 and 1, not {val_fraction}")
    if len(images) < 2:
        raise ValueError("one image with its mask is too few to split for training and validation; add more")
    order = np.random.default_rng(seed).permutation(len(images))
    held_out = min(max(1, round(val_fraction * len(images))), len(images) - 1)
    return images.taking(sorted(order[held_out:])), images.taking(sorted(order[:held_out]))
