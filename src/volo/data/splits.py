"""The splits of a data set: train, val and test."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from volo.data.class_names import doubtful_names
from volo.data.images import FileImages, ImageSet
from volo.messages import join_few, nearest

#: Split → the usual words for it, as names of folders and in tables.
SPLIT_ALIASES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}

#: Where a word in a name ends: at separators and digits, and at the capital of the next word (``TrainData``).
_WORD_ENDS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

#: The name of the only split of a data set that is not divided into splits.
UNSPLIT = "all"

#: Split → the function that opens it. A split that is not needed is neither listed nor loaded.
Splits = Mapping[str, Callable[[], ImageSet]]

#: The type of an opened split: labeled images, or images with masks.
Opened = TypeVar("Opened")


def split_named(name: str) -> str | None:
    """Return the split whose alias a whole name is, in any case (``Train``, ``valid``), or None."""
    return next((split for split, words in SPLIT_ALIASES.items() if name.lower() in words), None)


def split_within(name: str) -> str | None:
    """Return the split of the only alias among the words of a name (``training_set``, ``TrainData``), or None."""
    splits = {split for word in _WORD_ENDS.split(name) if (split := split_named(word))}
    return splits.pop() if len(splits) == 1 else None


def train_val_splits(splits: Splits, name: str, *, val_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return the training and validation images: those of the val split, else of the test split, else held-out ones.

    Args:
        splits: of the data set.
        name: of the data set, for error messages.
        val_fraction: share of every class to hold out if there is neither a val nor a test split, in (0, 1).
        seed: of the random choice of the held-out images.

    Raises:
        ValueError: There is no train split, the two splits differ in their classes, or a class has too few images to
            hold one out.
    """
    train = training_split(splits, name)
    second = next((split for split in ("val", "test") if split in splits), None)
    if second is None:
        assert isinstance(train, FileImages), "data sets in memory come with a split for validation"
        return split_by_class(train, val_fraction, seed)
    val = splits[second]()
    _check_same_classes(train, val, f"the {second} split of {name}")
    return train, val


def training_split(splits: Mapping[str, Callable[[], Opened]], name: str) -> Opened:
    """Open the train split, or the whole data set if it is not divided.

    Raises:
        ValueError: There is no train split.
    """
    first = next((split for split in ("train", UNSPLIT) if split in splits), None)
    if first is None:
        raise ValueError(f"{name} has no train split, only {' and '.join(splits)}")
    return splits[first]()


def evaluation_split(splits: Mapping[str, Callable[[], Opened]], name: str, split: str | None) -> Opened:
    """Open the named split; without a name the val split, else the test split, else the undivided data set.

    Raises:
        ValueError: There is no such split.
    """
    if split is None:
        split = next((split for split in ("val", "test", UNSPLIT) if split in splits), None)
        if split is None:
            raise ValueError(f"{name} has neither a val nor a test split, only {' and '.join(splits)}")
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}{nearest(split, splits)}")
    return splits[split]()


def split_by_class(images: FileImages, val_fraction: float, seed: int) -> tuple[FileImages, FileImages]:
    """Split the images at random, class by class, with at least one image of every class on either side.

    Args:
        images: to be split.
        val_fraction: share of every class that goes to the second result, in (0, 1).
        seed: of the random choice.

    Raises:
        ValueError: The fraction is not in (0, 1), or a class has fewer than two images.
    """
    if not 0.0 < val_fraction < 1.0:
        raise ValueError(f"the fraction for validation must lie between 0 and 1, not {val_fraction}")
    labels = np.asarray(images.labels)
    held_out = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(seed)
    for index, name in enumerate(images.class_names):
        members = np.flatnonzero(labels == index)
        if len(members) < 2:
            doubts = doubtful_names(images.class_names, len(labels))
            raise ValueError(
                "; ".join(
                    [f"class {name!r} has one image: too few to split for training and validation; add more", *doubts]
                )
            )
        count = min(max(1, round(val_fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    return images.taking(np.flatnonzero(~held_out)), images.taking(np.flatnonzero(held_out))


def _check_same_classes(train: ImageSet, val: ImageSet, where: str) -> None:
    missing = [name for name in train.class_names if name not in val.class_names]
    unknown = [name for name in val.class_names if name not in train.class_names]
    if missing or unknown:
        problem = (
            f"{where} lacks the classes {join_few(missing)}, which the train split has; add images"
            if missing
            else f"{where} has the classes {join_few(unknown)}, which the train split lacks"
        )
        names = sorted({*train.class_names, *val.class_names})
        raise ValueError("; ".join([problem, *doubtful_names(names, len(train.labels) + len(val.labels))]))
