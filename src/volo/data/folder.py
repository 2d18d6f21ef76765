"""Folders of images, one folder a class: with train and val folders above them, or one folder to be split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from volo.data.images import FileImages

TRAIN_FOLDERS = ("train", "training")
VAL_FOLDERS = ("val", "valid", "validation", "test")


def open_folder(root: Path, *, val_fraction: float, seed: int) -> tuple[FileImages, FileImages]:
    """Open ``root`` as training and validation images.

    With ``root/train/<class>/*`` and ``root/val/<class>/*`` these are taken; otherwise ``root/<class>/*`` is
    split: of every class, a share of ``val_fraction`` drawn with ``seed`` is for validation.

    Raises:
        ValueError: no classes, a class without images, or classes that differ between the two.
    """
    train_root, val_root = _subfolder(root, TRAIN_FOLDERS), _subfolder(root, VAL_FOLDERS)
    if train_root is not None and val_root is not None:
        train, val = list_folder(train_root), list_folder(val_root)
        _check_same_classes(train, val, val_root)
        return train, val
    return split(list_folder(train_root or root), val_fraction, seed)


def open_training(root: Path) -> FileImages:
    """The training images of ``root``: its train folder where it has one, else ``root/<class>/*`` itself, all of it."""
    return list_folder(_subfolder(root, TRAIN_FOLDERS) or root)


def open_validation(root: Path) -> FileImages:
    """The validation images of ``root``: its val folder where it has one, else ``root/<class>/*`` itself."""
    return list_folder(_subfolder(root, VAL_FOLDERS) or root)


def list_folder(root: Path) -> FileImages:
    """List ``root/<class>/*``, classes in alphabetical order, images at any depth below them.

    Hidden folders are no classes.

    Raises:
        ValueError: no class folders, or a class folder without images.
    """
    class_names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise ValueError(
            f"{root} has no class folders; expected {root}/<class>/<image>, or train and val folders of that form"
        )
    class_to_index = {name: index for index, name in enumerate(class_names)}
    samples = make_dataset(str(root), class_to_index, extensions=IMG_EXTENSIONS, allow_empty=True)
    labels = [label for _, label in samples]
    filled = set(labels)
    empty = [name for name, label in class_to_index.items() if label not in filled]
    if empty:
        raise ValueError(
            f"no images in {_shown(root / name for name in empty)}; put images there "
            f"({', '.join(IMG_EXTENSIONS)}) or remove the folder"
        )
    return FileImages([Path(path) for path, _ in samples], labels, tuple(class_names))


def split(images: FileImages, val_fraction: float, seed: int) -> tuple[FileImages, FileImages]:
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
    return FileImages([images.paths[i] for i in indices], [images.labels[i] for i in indices], images.class_names)


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _check_same_classes(train: FileImages, val: FileImages, val_root: Path) -> None:
    missing = [name for name in train.class_names if name not in val.class_names]
    if missing:
        raise ValueError(f"{val_root} lacks the classes {_shown(missing)}, which the training folder has; add images")
    unknown = [name for name in val.class_names if name not in train.class_names]
    if unknown:
        raise ValueError(f"{val_root} has the classes {_shown(unknown)}, which the training folder lacks")


def _shown(items: object) -> str:
    """At most five of the items, and how many more there are."""
    names = [str(item) for item in items]  # type: ignore[attr-defined]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
