"""Opening data by what a person writes: a folder, a table, or the name of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import overload

from volo.data.color_modes import BACKGROUND, mode_of
from volo.data.embedded import fashion_mini
from volo.data.images import MAX_PIXELS, Converted, FileImages, ImageSet
from volo.data.segmentation.formats.layouts import find_layout, open_layout
from volo.data.segmentation.pairs import MaskedImages, PairSplits, split_pairs
from volo.data.sources.folder import folder_parts
from volo.data.sources.table import TABLE_EXTENSIONS, table_parts
from volo.data.sources.torchvision_sets import DEFAULT_ROOT, SETS, torchvision_parts
from volo.data.splits import Splits, evaluation_split, train_val_splits, training_split
from volo.messages import nearest


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """How to understand what a person names as data.

    Attributes:
        image_column: the column of a table that holds paths; None finds one of the usual names.
        label_column: the column of a table that holds class names, likewise.
        split_column: the column of a table that says train, val or test; None finds one, or goes without.
        nested: in folders, every folder that holds images itself is a class, named by its path from the top.
        root: folder in which torchvision's data sets lie.
        download: let torchvision download a data set that is not there (--download for short).
        max_pixels: images of more, by their headers, are not decoded.
        class_file: of images with masks: the file that says what the values of masks stand for; None takes
            ``classes.txt`` in the folder, or the classes of the public data set whose layout it has.
        palette: masks are color pictures, to be converted by the colors of the classes (--palette for short).
    """

    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    nested: bool = False
    root: str = DEFAULT_ROOT
    download: bool = False
    max_pixels: int = MAX_PIXELS
    class_file: str | None = None
    palette: bool = False

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {self.max_pixels}")


def _torchvision(name: str, source: DataSource) -> Splits:
    return torchvision_parts(name, root=source.root, download=source.download)


#: name → what opens the data set of that name.
DATASETS: Mapping[str, Callable[[DataSource], Splits]] = {
    "fashion-mini": lambda source: {part: partial(fashion_mini, part) for part in ("train", "val")},
    **{name: partial(_torchvision, name) for name in SETS},
}


def open_data(
    path: str, *, val_fraction: float = 0.1, seed: int = 0, source: DataSource | None = None
) -> tuple[ImageSet, ImageSet]:
    """Training and validation images of a folder, a table or a named data set.

    Args:
        path: a folder of class folders (:func:`volo.data.sources.folder.folder_parts`), a table
            (:func:`volo.data.sources.table.read_table`), or a key of ``DATASETS``.
        val_fraction: the share of every class for validation, where the data have neither a val nor a test part.
        seed: draws that share.
        source: how to understand ``path``.

    Raises:
        ValueError: there is no such folder, table or name, or it is not laid out as needed.
    """
    return train_val_splits(open_parts(path, source=source), path, val_fraction=val_fraction, seed=seed)


def open_validation_data(path: str, *, part: str | None = None, source: DataSource | None = None) -> ImageSet:
    """The validation images of a folder, a table or a named data set, or those of another part.

    Args:
        path: as for :func:`open_data`.
        part: train, val or test; None takes val, else test, else all there are.
        source: how to understand ``path``.

    Raises:
        ValueError: there is no such folder, table, name or part, or it is not laid out as needed.
    """
    return evaluation_split(open_parts(path, source=source), path, part)


def open_training_data(path: str, *, source: DataSource | None = None) -> ImageSet:
    """The training images of a folder, a table or a named data set, with those that a split would hold out of them.

    Raises:
        ValueError: there is no such folder, table or name, or it is not laid out as needed.
    """
    return training_split(open_parts(path, source=source), path)


def open_parts(path: str, *, source: DataSource | None = None) -> Splits:
    """All parts of a folder, a table or a named data set, each opened when it is called.

    Raises:
        ValueError: there is no such folder, table or name, or it is not laid out as needed.
    """
    source = source or DataSource()
    place = Path(path)
    if is_masked(path):
        raise ValueError(f"{path} holds images and masks, not folders of classes; these are for --task segmentation")
    if path and place.is_dir():
        parts = folder_parts(place, nested=source.nested)
    elif place.is_file() and place.suffix.lower() in TABLE_EXTENSIONS:
        columns = {name: getattr(source, name) for name in ("image_column", "label_column", "split_column")}
        parts = table_parts(place, **columns)
    elif path in DATASETS:
        parts = DATASETS[path](source)
    elif path and place.exists():
        raise ValueError(
            f"{path} is a file, but no table ({', '.join(TABLE_EXTENSIONS)}); give a folder of class folders, "
            f"a table, or one of: {', '.join(DATASETS)}"
        )
    else:
        raise ValueError(f"no folder, table or data set is named {path!r}{nearest(path, DATASETS)}")
    return {part: partial(_limited, opener, source.max_pixels) for part, opener in parts.items()}


def open_masked_data(
    path: str, *, val_fraction: float = 0.1, seed: int = 0, source: DataSource | None = None
) -> tuple[MaskedImages, MaskedImages]:
    """Training and validation images with their masks.

    Args:
        path: a folder (:func:`volo.data.segmentation.formats.layouts.find_layout`).
        val_fraction: the share of the pairs for validation, where there is neither a val nor a test part.
        seed: draws that share.
        source: how to understand ``path``.

    Raises:
        ValueError: it is not laid out as needed, or pairs do not fit together.
    """
    parts = open_masked_parts(path, source=source)
    train = training_split(parts, path)
    if "val" in parts or "test" in parts:
        return train, evaluation_split(parts, path, None)
    return split_pairs(train, val_fraction, seed)


def open_masked_validation_data(
    path: str, *, part: str | None = None, source: DataSource | None = None
) -> MaskedImages:
    """The validation images with their masks, or those of another part.

    Args:
        path: as for :func:`open_masked_data`.
        part: train, val or test; None takes val, else test, else all there are.
        source: how to understand ``path``.

    Raises:
        ValueError: there is no such part, or as :func:`open_masked_data`.
    """
    return evaluation_split(open_masked_parts(path, source=source), path, part)


def open_masked_parts(path: str, *, source: DataSource | None = None) -> PairSplits:
    """All parts of a folder of images and masks, each listed and checked when it is called.

    Raises:
        ValueError: it is not laid out as needed, or nothing says what the classes are.
    """
    source = source or DataSource()
    if not path or not Path(path).exists():
        raise ValueError(f"there is no folder {path!r}")
    return open_layout(Path(path), classes=source.class_file, palette=source.palette, max_pixels=source.max_pixels)


def is_masked(path: str) -> bool:
    """Whether ``path`` is a folder of images with masks."""
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
    """The same images, read as gray (1 channel), color (3), or color and transparency (4).

    Raises:
        ValueError: another number of channels.
    """
    mode_of(channels)
    if isinstance(images, FileImages | MaskedImages):
        return replace(images, channels=channels, background=background)
    return images if images.channels == channels else Converted(images, channels, background)
