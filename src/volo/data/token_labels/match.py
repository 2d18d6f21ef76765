"""Token labels of a set of images: a store, or a folder in the authors' layout, matched with the images by name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from volo.data.classification.label_map import LabelMap, TokenLabels
from volo.data.images import ImageError, ImageSet
from volo.data.token_labels.author_files import check_class_count, label_file, read_label_file
from volo.data.token_labels.listing import ImageManifest, list_images
from volo.data.token_labels.store import LABELED, PENDING, UNREADABLE, TokenLabelStore
from volo.messages import join_few, printable


def open_token_labels(path: str, images: ImageSet, data: str) -> TokenLabels:
    """Open the token labels of ``images`` and see whether they fit.

    Args:
        path: a store, or a folder in the authors' layout.
        images: some or all of the images that were labeled, in any order.
        data: what the person named to open the images.

    Raises:
        ValueError: there is nothing at ``path``, or it belongs to other classes or other images; the message names
            what differs.
    """
    if Path(path).is_dir():
        return FolderLabels(Path(path), images, data)
    if not Path(path).exists():
        raise ValueError(f"there are no token labels at {path}; make them by: volo label {data} --out {path}")
    return StoreLabels(TokenLabelStore(path), images, data)


class StoreLabels:
    """Token labels of images, from a store. Arguments and errors are those of :func:`open_token_labels`."""

    def __init__(self, store: TokenLabelStore, images: ImageSet, data: str) -> None:
        self.store, self.images = store, images
        self.records, problems = match(store, list_images(images, data), images.class_names)
        if problems:
            raise ValueError(f"{store.path} does not fit {data}: {'; '.join(problems)}")

    def read(self, index: int) -> LabelMap:
        record = self.records[index]
        if self.store.states[record] != LABELED:
            raise ImageError(f"{self.images.name(index)} has no token labels: it could not be read by volo label")
        return self.store.read(record)


def match(
    store: TokenLabelStore, listing: ImageManifest, class_names: tuple[str, ...], *, finished: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Find images in a store.

    Args:
        store: where.
        listing: the images.
        class_names: their classes.
        finished: an image that is still to be labeled does not fit.

    Returns:
        The record of every image, (images,) int64, -1 where it has none; and what does not fit, a line for each kind.
    """
    if store.info.class_names != class_names:
        return np.full(len(listing.names), -1), [_other_classes(store.info.class_names, class_names)]
    names = store.names()
    if names == listing.names:
        records = np.arange(len(names))
    else:
        places = {name: place for place, name in enumerate(names)}
        records = np.array([places.get(name, -1) for name in listing.names], dtype=np.int64)
    known = records >= 0
    # An image that could not be read has no labels that a change could spoil.
    labeled = known & (store.states[records] == LABELED)
    kinds = (
        ("not in the store", ~known),
        ("changed in size since they were labeled", labeled & (store.sizes()[records] != listing.sizes)),
        ("of another class than when they were labeled", known & (store.labels()[records] != listing.labels)),
        ("still to be labeled (go on with volo label)", finished & known & (store.states[records] == PENDING)),
    )
    return records, [line for what, where in kinds if (line := _counted(what, where, listing.names.__getitem__))]


def check_store(store: TokenLabelStore, images: ImageSet, data: str) -> tuple[list[str], dict[str, int]]:
    """Compare a store with all of its images.

    Returns:
        What does not fit, a line for each kind, and how many images are in each state.
    """
    listing = list_images(images, data)
    _, problems = match(store, listing, images.class_names)
    present, names = set(listing.names), store.names()
    gone = np.array([name not in present for name in names], dtype=bool)
    if line := _counted("in the store but not in the data", gone, names.__getitem__):
        problems.append(line)
    kinds = {"labeled": LABELED, "cannot be read": UNREADABLE, "still to be labeled": PENDING}
    return problems, {kind: int((store.states == state).sum()) for kind, state in kinds.items()}


def _counted(what: str, where: np.ndarray, name: Callable[[int], str]) -> str:
    """How many images are so, and some of their names."""
    found = [int(place) for place in np.flatnonzero(where)]
    return f"{len(found):,} images are {what}: {join_few(printable(name(place)) for place in found)}" if found else ""


def _other_classes(stored: tuple[str, ...], given: tuple[str, ...]) -> str:
    if len(stored) != len(given):
        return f"its labels are of {len(stored):,} classes, the data have {len(given):,}"
    place = next(i for i, (a, b) in enumerate(zip(stored, given, strict=True)) if a != b)
    return f"its labels are of other classes: class {place} is {stored[place]!r} there and {given[place]!r} in the data"


class FolderLabels:
    """Token labels of images, from ``<class>/<stem>.pt`` files; the order of their classes is taken to be the data's.

    Arguments and errors are those of :func:`open_token_labels`.
    """

    def __init__(self, root: Path, images: ImageSet, data: str) -> None:
        check_class_count(len(images.class_names))
        listing = list_images(images, data)
        self.files = label_files(listing.names)
        self.root, self.num_classes = root, len(images.class_names)
        there = {f"{folder.name}/{file.name}" for folder in _folders(root) for file in _files(folder)}
        missing = np.array([file not in there for file in self.files], dtype=bool)
        if line := _counted("without a label file", missing, listing.names.__getitem__):
            raise ValueError(f"{root} does not fit {data}: {line}")

    def read(self, index: int) -> LabelMap:
        return read_label_file(self.root / self.files[index], self.num_classes)


def label_files(names: list[str]) -> list[str]:
    """The label file of every image.

    Raises:
        ValueError: two images share one.
    """
    files = [label_file(name) for name in names]
    first: dict[str, str] = {}
    for name, file in zip(names, files, strict=True):
        if first.setdefault(file, name) != name:
            raise ValueError(f"{first[file]} and {name} would share the label file {file}; rename one, or use a store")
    return files


def _folders(root: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in os.scandir(root) if entry.is_dir()]


def _files(folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    return list(os.scandir(folder.path))
