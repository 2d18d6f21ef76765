"""torchvision's data sets by name, from a local folder; torchvision downloads them only if the user asks for it.

To add a data set, add a row to ``SETS``. torchvision checks the files; files that it unpickles, by their checksums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from volo.data.images import ArrayImages, FileImages, ImageSet
from volo.data.splits import UNSPLIT, Splits

#: Default folder of torchvision's data sets.
DEFAULT_ROOT = "~/.cache/volo/datasets"


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's data sets.

    Attributes:
        kind: name of its class in ``torchvision.datasets``.
        splits: split → arguments of the class.
        images: name of the attribute that holds the images: arrays, paths, or pairs (path, label).
        labels: name of the attribute that holds the class indices; None if ``images`` holds pairs (path, label).
    """

    kind: str
    splits: Mapping[str, Mapping[str, Any]]
    images: str
    labels: str | None


_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}

SETS: Mapping[str, TorchvisionSet] = {
    "cifar10": TorchvisionSet("CIFAR10", _FLAG, "data", "targets"),
    "cifar100": TorchvisionSet("CIFAR100", _FLAG, "data", "targets"),
    "mnist": TorchvisionSet("MNIST", _FLAG, "data", "targets"),
    "fashion-mnist": TorchvisionSet("FashionMNIST", _FLAG, "data", "targets"),
    "kmnist": TorchvisionSet("KMNIST", _FLAG, "data", "targets"),
    "svhn": TorchvisionSet("SVHN", _TWO, "data", "labels"),
    "stl10": TorchvisionSet("STL10", _TWO, "data", "labels"),
    "oxford-pets": TorchvisionSet(
        "OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}, "_images", "_labels"
    ),
    "flowers102": TorchvisionSet("Flowers102", _THREE, "_image_files", "_labels"),
    "food101": TorchvisionSet("Food101", _TWO, "_image_files", "_labels"),
    "dtd": TorchvisionSet("DTD", _THREE, "_image_files", "_labels"),
    "fgvc-aircraft": TorchvisionSet("FGVCAircraft", _THREE, "_image_files", "_labels"),
    "imagenette": TorchvisionSet(
        "Imagenette", {"train": {"split": "train"}, "val": {"split": "val"}}, "_samples", None
    ),
    "eurosat": TorchvisionSet("EuroSAT", {UNSPLIT: {}}, "samples", None),
}


def torchvision_splits(name: str, *, root: str, download: bool) -> Splits:
    """Return the splits of a data set of ``SETS``, as functions that open them.

    The functions raise ValueError if files of the split are missing and ``download`` is False, and RuntimeError if the
    download fails.

    Args:
        name: a key of ``SETS``.
        root: torchvision's folder of data sets; ``~`` is the home folder.
        download: let torchvision download missing files.
    """
    return {split: partial(_open, name, split, root, download) for split in SETS[name].splits}


def _open(name: str, split: str, root: str, download: bool) -> ImageSet:
    from torchvision import datasets

    entry, folder = SETS[name], Path(root).expanduser()
    try:
        opened = getattr(datasets, entry.kind)(str(folder), download=download, **entry.splits[split])
    except (RuntimeError, OSError) as error:  # torchvision raises OSError if only some files are missing
        if download:
            raise RuntimeError(f"cannot download {name} to {folder}: {error}") from error
        raise ValueError(
            f"{name} is missing or incomplete in {folder}; let torchvision download it with --download, "
            "or give the folder that holds it with --root (volo train: --data.root)"
        ) from error
    return _images(opened, entry)


def _images(opened: Any, entry: TorchvisionSet) -> ImageSet:
    images = getattr(opened, entry.images)
    if entry.labels is None:
        labels, images = [label for _, label in images], [path for path, _ in images]
    else:
        labels = [int(label) for label in getattr(opened, entry.labels)]
    # SVHN and older versions of Flowers102 have no class names; Imagenette has several names for every class.
    names = getattr(opened, "classes", None) or range(max(labels) + 1)
    class_names = tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)
    if entry.images != "data":
        return FileImages([Path(path) for path in images], labels, class_names)
    pixels = np.asarray(images)
    return ArrayImages(pixels if pixels.shape[1] != 3 else pixels.transpose(0, 2, 3, 1), labels, class_names)
