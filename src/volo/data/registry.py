"""Functions that open a data set by its path or name: a folder, a table, or a known data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, overload

from volo.data.color_modes import BACKGROUND, mode_of
from volo.data.embedded import fashion_mini
from volo.data.images import MAX_PIXELS, Converted, FileImages, ImageSet
from volo.data.segmentation.formats.layouts import find_layout, open_layout
from volo.data.segmentation.pairs import MaskedImages, PairSplits, split_pairs
from volo.data.sources.folder import folder_splits
from volo.data.sources.table import TABLE_EXTENSIONS, table_splits
from volo.data.sources.torchvision_sets import DEFAULT_ROOT, SETS, torchvision_splits
from volo.data.splits import Splits, evaluation_split, train_val_splits, training_split
from volo.messages import nearest

#: What the data are for: images with labels, or images with masks.
_Task: TypeAlias = Literal["classification", "segmentation"]


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Options for reading a data set.

    Attributes:
        image_column: the column of a table that holds the paths; None looks for one of the usual names.
        label_column: the column of a table that holds the class names; None looks for one of the usual names.
        split_column: the column of a table that holds train, val or test; None looks for one of the usual names; a
            table without such a column is not divided into splits.
        nested: in a folder, true takes every subfolder that directly holds images for a class, named by its path below
            the folder; false takes the subfolders of the first level; None takes these, too, but raises an error where
            others may be meant.
        root: folder of torchvision's data sets.
        download: let torchvision download a data set that is missing (short: --download).
        max_pixels: images with more pixels, according to their headers, are not decoded.
        classes: for images with masks, a file that lists the classes and their values in masks, or the names of the
            classes with the values 0, 1, 2 …; None takes ``classes.txt`` in the folder, or the classes of the public
            data set with this layout.
        palette: read the classes of masks from their colors (short: --palette).
    """

    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    nested: bool | None = None
    root: str = DEFAULT_ROOT
    download: bool = False
    max_pixels: int = MAX_PIXELS
    classes: str | tuple[str, ...] | None = None
    palette: bool = False

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {self.max_pixels}")


def _torchvision(name: str, source: DataSource) -> Splits:
    return torchvision_splits(name, root=source.root, download=source.download)


#: Name of a data set → the function that opens its splits.
DATASETS: Mapping[str, Callable[[DataSource], Splits]] = {
    "fashion-mini": lambda source: {split: partial(fashion_mini, split) for split in ("train", "val")},
    **{name: partial(_torchvision, name) for name in SETS},
}


@overload
def open_data(
    path: str,
    *,
    task: Literal["classification"] = "classification",
    val_fraction: float = 0.1,
    seed: int = 0,
    source: DataSource | None = None,
) -> tuple[ImageSet, ImageSet]: ...
@overload
def open_data(
    path: str,
    *,
    task: Literal["segmentation"],
    val_fraction: float = 0.1,
    seed: int = 0,
    source: DataSource | None = None,
) -> tuple[MaskedImages, MaskedImages]: ...
def open_data(
    path: str,
    *,
    task: _Task = "classification",
    val_fraction: float = 0.1,
    seed: int = 0,
    source: DataSource | None = None,
) -> tuple[ImageSet, ImageSet] | tuple[MaskedImages, MaskedImages]:
    """Open the training and validation images of a data set.

    Args:
        path: for classification, a folder of class folders (:func:`volo.data.sources.folder.folder_splits`), a table
            (:func:`volo.data.sources.table.read_table`), or a key of ``DATASETS``; for segmentation, a folder of images
            and masks (:func:`volo.data.segmentation.formats.layouts.find_layout`).
        task: classification opens images with labels, segmentation opens images with masks.
        val_fraction: share held out for validation if there is neither a val nor a test split, in (0, 1): of the images
            of every class, or of all images with masks.
        seed: of the random choice of the held-out images.
        source: how to read ``path``.

    Raises:
        ValueError: The path or name does not exist, its layout is not supported, it has no train split, its splits
            differ in their classes, or it has too few images to hold some out.
    """
    if task == "classification":
        return train_val_splits(open_splits(path, source=source), path, val_fraction=val_fraction, seed=seed)
    splits = open_splits(path, task=task, source=source)
    train = training_split(splits, path)
    if "val" in splits or "test" in splits:
        return train, evaluation_split(splits, path, None)
    return split_pairs(train, val_fraction, seed)


@overload
def open_validation_data(
    path: str,
    *,
    task: Literal["classification"] = "classification",
    split: str | None = None,
    source: DataSource | None = None,
) -> ImageSet: ...
@overload
def open_validation_data(
    path: str, *, task: Literal["segmentation"], split: str | None = None, source: DataSource | None = None
) -> MaskedImages: ...
def open_validation_data(
    path: str, *, task: _Task = "classification", split: str | None = None, source: DataSource | None = None
) -> ImageSet | MaskedImages:
    """Open one split of a data set, by default the images for validation.

    Args:
        path: as for :func:`open_data`.
        task: as for :func:`open_data`.
        split: train, val or test; None takes val, else test, else all images of a data set without splits.
        source: how to read ``path``.

    Raises:
        ValueError: The path, name or split does not exist, or the layout is not supported.
    """
    if task == "classification":
        return evaluation_split(open_splits(path, source=source), path, split)
    return evaluation_split(open_splits(path, task=task, source=source), path, split)


def open_training_data(path: str, *, source: DataSource | None = None) -> ImageSet:
    """Open the labeled images for training, including those that :func:`open_data` may hold out for validation.

    Args:
        path: as for :func:`open_data`, for classification.
        source: how to read ``path``.

    Raises:
        ValueError: The path or name does not exist, its layout is not supported, or it has no train split.
    """
    return training_split(open_splits(path, source=source), path)


@overload
def open_splits(
    path: str, *, task: Literal["classification"] = "classification", source: DataSource | None = None
) -> Splits: ...
@overload
def open_splits(path: str, *, task: Literal["segmentation"], source: DataSource | None = None) -> PairSplits: ...
def open_splits(path: str, *, task: _Task = "classification", source: DataSource | None = None) -> Splits | PairSplits:
    """Return the splits of a data set as functions. A split is listed, checked and loaded when its function is called.

    Args:
        path: as for :func:`open_data`.
        task: as for :func:`open_data`.
        source: how to read ``path``.

    Returns:
        Name of the split (train, val, test, or all for a data set without splits) → the function that opens it.

    Raises:
        ValueError: The path or name does not exist, its layout is not supported, or the classes of masks are unknown.
    """
    source = source or DataSource()
    if task == "segmentation":
        return _masked_splits(path, source)
    if task != "classification":
        raise ValueError(f"task must be classification or segmentation, not {task!r}")
    return _labeled_splits(path, source)


def _labeled_splits(path: str, source: DataSource) -> Splits:
    place = Path(path)
    if holds_masks(path):
        raise ValueError(
            f"{path} holds images and masks, not class folders; masks need a segmentation model "
            "(volo train --task segmentation)"
        )
    if path and place.is_dir():
        splits = folder_splits(place, nested=source.nested)
    elif place.is_file() and place.suffix.lower() in TABLE_EXTENSIONS:
        columns = {name: getattr(source, name) for name in ("image_column", "label_column", "split_column")}
        splits = table_splits(place, **columns)
    elif path in DATASETS:
        splits = DATASETS[path](source)
    elif path and place.exists():
        raise ValueError(
            f"{path} is a file, but not a table ({', '.join(TABLE_EXTENSIONS)}); give a folder of class folders, "
            f"a table, or one of: {', '.join(DATASETS)}"
        )
    else:
        raise ValueError(f"no folder, table or data set is named {path!r}{nearest(path, DATASETS)}")
    return {split: partial(_limited, opener, source.max_pixels) for split, opener in splits.items()}


def _masked_splits(path: str, source: DataSource) -> PairSplits:
    if not path or not Path(path).exists():
        raise ValueError(f"there is no folder {path!r}")
    return open_layout(Path(path), classes=source.classes, palette=source.palette, max_pixels=source.max_pixels)


def holds_masks(path: str) -> bool:
    """Return whether ``path`` is a folder of images with masks in a supported layout."""
    return path != "" and find_layout(Path(path)) is not None


def _limited(opener: Callable[[], ImageSet], max_pixels: int) -> ImageSet:
    images = opener()
    return replace(images, max_pixels=max_pixels) if isinstance(images, FileImages) else images


@overload
def with_channels(images: ImageSet, channels: int, background: str = BACKGROUND) -> ImageSet: ...
@overload
def with_channels(images: MaskedImages, channels: int, background: str = BACKGROUND) -> MaskedImages: ...
def with_channels(
    images: ImageSet | MaskedImages, channels: int, background: str = BACKGROUND
) -> ImageSet | MaskedImages:
    """Return the same images, read as gray (1 channel), color (3), or color and transparency (4).

    Args:
        images: the image set.
        channels: 1, 3 or 4.
        background: a color that Pillow knows, for transparent pixels; four channels keep the transparency.

    Raises:
        ValueError: ``channels`` is not 1, 3 or 4.
    """
    mode_of(channels)
    if isinstance(images, FileImages | MaskedImages):
        return replace(images, channels=channels, background=background)
    return images if images.channels == channels else Converted(images, channels, background)
