"""Matching token labels with images by name; the labels are in a store, or in a folder in the authors' layout."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from volo.data.classification.label_map import LabelMap, TokenLabels
from volo.data.images import ImageError, ImageSet
from volo.data.token_labels.author_files import check_class_count, label_file, read_label_file
from volo.data.token_labels.listing import ImageManifest, list_images
from volo.data.token_labels.store import LABELED, PENDING, UNREADABLE, TokenLabelStore
from volo.messages import join_few, normalized, printable, quoted


def open_token_labels(path: str, images: ImageSet, data: str) -> TokenLabels:
    """Open the token labels of ``images`` and check that they fit.

    Args:
        path: a store, or a folder in the authors' layout.
        images: some or all of the images that were labeled, in any order.
        data: path or name of the data as the user gave it, see :func:`list_images`.

    Raises:
        ValueError: ``path`` does not exist, or belongs to other classes or other images; the message lists the
            differences.
    """
    if Path(path).is_dir():
        return FolderLabels(Path(path), images, data)
    if not Path(path).exists():
        command = f"volo label {quoted(data)} --output {quoted(path)}"
        raise ValueError(f"there are no token labels at {path}; make them with: {command}")
    return StoreLabels(TokenLabelStore(path), images, data)


class StoreLabels:
    """Token labels of images, from a store. For arguments and errors see :func:`open_token_labels`."""

    def __init__(self, store: TokenLabelStore, images: ImageSet, data: str) -> None:
        self.store, self.images = store, images
        self.records, problems = match(store, list_images(images, data), images.class_names)
        if problems:
            raise ValueError(f"{store.path} does not fit {data}: {'; '.join(problems)}")

    def read(self, index: int) -> LabelMap:
        record = self.records[index]
        if self.store.states[record] != LABELED:
            raise ImageError(f"{self.images.name(index)} has no token labels: volo label could not read it")
        return self.store.read(record)


def match(
    store: TokenLabelStore, manifest: ImageManifest, class_names: tuple[str, ...], *, finished: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Find the records of images in a store.

    Args:
        store: the store.
        manifest: the images.
        class_names: the classes of the images.
        finished: report images that are not labeled yet as a problem.

    Returns:
        The index of every image's record, (images,) int64, -1 for an image without a record; and the problems, one line
        for each kind.
    """
    if list(map(normalized, store.info.class_names)) != list(map(normalized, class_names)):
        return np.full(len(manifest.names), -1), [_describe_classes(store.info.class_names, class_names)]
    names = store.names()
    if names == manifest.names:
        records = np.arange(len(names))
    else:
        places = {name: place for place, name in enumerate(names)}
        records = np.array([places.get(name, -1) for name in manifest.names], dtype=np.int64)
    known = records >= 0
    # Only labeled images are compared in size: an image that could not be read has no labels that could be outdated.
    labeled = known & (store.states[records] == LABELED)
    kinds = (
        ("not in the store", ~known),
        ("of another file size than when they were labeled", labeled & (store.sizes()[records] != manifest.sizes)),
        ("of another class than when they were labeled", known & (store.labels()[records] != manifest.labels)),
        ("not labeled yet (resume with volo label)", finished & known & (store.states[records] == PENDING)),
    )
    return records, [line for kind, mask in kinds if (line := _describe(kind, mask, manifest.names.__getitem__))]


def check_store(store: TokenLabelStore, images: ImageSet, data: str) -> tuple[list[str], dict[str, int]]:
    """Compare a store with all of its images.

    Returns:
        The problems, one line for each kind; and state → number of images.
    """
    manifest = list_images(images, data)
    _, problems = match(store, manifest, images.class_names)
    present, names = set(manifest.names), store.names()
    gone = np.array([name not in present for name in names], dtype=bool)
    if line := _describe("in the store but not in the data", gone, names.__getitem__):
        problems.append(line)
    kinds = {"labeled": LABELED, "cannot be read": UNREADABLE, "not labeled yet": PENDING}
    return problems, {kind: int((store.states == state).sum()) for kind, state in kinds.items()}


def _describe(kind: str, mask: np.ndarray, name: Callable[[int], str]) -> str:
    """Return the number of images in ``mask``, their kind and some of their names; empty if there are none."""
    found = [int(place) for place in np.flatnonzero(mask)]
    return f"{len(found):,} images are {kind}: {join_few(printable(name(place)) for place in found)}" if found else ""


def _describe_classes(stored: tuple[str, ...], present: tuple[str, ...]) -> str:
    """Return the first difference between the classes of the store and those of the data."""
    if len(stored) != len(present):
        return f"it has {len(stored):,} classes, the data have {len(present):,}"
    index = next(i for i, (a, b) in enumerate(zip(stored, present, strict=True)) if a != b)
    return f"it has other classes: class {index} is {stored[index]!r} in the store and {present[index]!r} in the data"


class FolderLabels:
    """Token labels of images, from ``<class>/<stem>.pt`` files. The class indices are taken to be those of the data.

    For arguments and errors see :func:`open_token_labels`.
    """

    def __init__(self, root: Path, images: ImageSet, data: str) -> None:
        check_class_count(len(images.class_names))
        manifest = list_images(images, data)
        self.files = label_files(manifest.names)
        self.root, self.num_classes = root, len(images.class_names)
        present = {f"{folder.name}/{file.name}" for folder in _folders(root) for file in _files(folder)}
        missing = np.array([file not in present for file in self.files], dtype=bool)
        if line := _describe("without a label file", missing, manifest.names.__getitem__):
            raise ValueError(f"{root} does not fit {data}: {line}")

    def read(self, index: int) -> LabelMap:
        return read_label_file(self.root / self.files[index], self.num_classes)


def label_files(names: list[str]) -> list[str]:
    """Return the path of every image's label file.

    Raises:
        ValueError: Two images share one label file.
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
