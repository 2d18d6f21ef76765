"""The parts of a data set: what is for training, for validation and for the test."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from volo.data.images import FileImages, ImageSet
from volo.messages import join_few, nearest

#: A part, and the words that people use for it, as folders and in tables.
SPLIT_ALIASES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

#: The one part of what is not parted.
UNSPLIT = "all"

#: Part → what opens it; a part that nobody asks for is never listed or loaded.
Splits = Mapping[str, Callable[[], ImageSet]]

#: What a part is opened as: images with labels, or with masks.
Opened = TypeVar("Opened")


def train_val_splits(parts: Splits, name: str, *, val_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images; without a part for validation, the test part, and without that a split.

    Args:
        parts: of the data set.
        name: what to call it in messages.
        val_fraction: the share of every class for validation, where a split is made.
        seed: draws that share.

    Raises:
        ValueError: nothing to train on, classes that differ between the two, or too few images to split.
    """
    train = training_split(parts, name)
    second = next((part for part in ("val", "test") if part in parts), None)
    if second is None:
        assert isinstance(train, FileImages), "sets in memory come with a part to validate on"
        return split_by_class(train, val_fraction, seed)
    val = parts[second]()
    _check_same_classes(train, val, f"the {second} part of {name}")
    return train, val


def training_split(parts: Mapping[str, Callable[[], Opened]], name: str) -> Opened:
    """The images to train on before any are held out of them.

    Raises:
        ValueError: there is no part for training.
    """
    first = next((part for part in ("train", UNSPLIT) if part in parts), None)
    if first is None:
        raise ValueError(f"{name} has no part for training, only {' and '.join(parts)}")
    return parts[first]()


def evaluation_split(parts: Mapping[str, Callable[[], Opened]], name: str, part: str | None) -> Opened:
    """The images of ``part``; of the validation part, the test part or the whole where it is None.

    Raises:
        ValueError: there is no such part.
    """
    if part is None:
        part = next((part for part in ("val", "test", UNSPLIT) if part in parts), None)
        if part is None:
            raise ValueError(f"{name} has neither a val nor a test part, only {' and '.join(parts)}")
    if part not in parts:
        raise ValueError(f"{name} has no part {part!r}{nearest(part, parts)}")
    return parts[part]()


def split_by_class(images: FileImages, val_fraction: float, seed: int) -> tuple[FileImages, FileImages]:
    """Part the images class by class; each class gives at least one image to either side.

    Raises:
        ValueError: the fraction is not inside (0, 1), or a class has fewer than two images.
    """
    if not 0.0 < val_fraction < 1.0:
        raise ValueError(f"the fraction for validation must lie between 0 and 1, not {val_fraction}")
    labels = np.asarray(images.labels)
    held_out = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(seed)
    for index, name in enumerate(images.class_names):
        members = np.flatnonzero(labels == index)
        if len(members) < 2:
            raise ValueError(f"class {name!r} has one image: too few to split for training and validation; add more")
        count = min(max(1, round(val_fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    return _take(images, np.flatnonzero(~held_out)), _take(images, np.flatnonzero(held_out))


def _take(images: FileImages, indices: np.ndarray) -> FileImages:
    return replace(images, paths=[images.paths[i] for i in indices], labels=[images.labels[i] for i in indices])


def _check_same_classes(train: ImageSet, val: ImageSet, where: str) -> None:
    missing = [name for name in train.class_names if name not in val.class_names]
    if missing:
        raise ValueError(f"{where} lacks the classes {join_few(missing)}, which the training part has; add images")
    unknown = [name for name in val.class_names if name not in train.class_names]
    if unknown:
        raise ValueError(f"{where} has the classes {join_few(unknown)}, which the training part lacks")
