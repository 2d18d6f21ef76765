"""torchvision's data sets by name, from a local folder; downloaded by torchvision, only where a person says so.

A further one is one row here. torchvision checks the files (those that it unpickles, by their checksums).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from volo.data.images import ArrayImages, FileImages, ImageSet
from volo.data.splits import UNSPLIT, Splits

#: Where data sets are looked for unless told otherwise.
DEFAULT_ROOT = "~/.cache/volo/datasets"


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's data sets.

    Attributes:
        kind: its class in ``torchvision.datasets``.
        parts: part → the arguments of the class.
        images: the attribute with the images: arrays, paths, or pairs of a path and a label.
        labels: the attribute with the class indices; None where the pairs have them.
    """

    kind: str
    parts: Mapping[str, Mapping[str, Any]]
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


def torchvision_parts(name: str, *, root: str, download: bool) -> Splits:
    """The parts of a data set of ``SETS``.

    Args:
        name: a key of ``SETS``.
        root: the folder that torchvision was, or is, told; ``~`` is the home folder.
        download: let torchvision fetch what is missing.

    Raises:
        ValueError: on opening a part that is not there whole and may not be downloaded. RuntimeError: the download
            failed.
    """
    return {part: partial(_open, name, part, root, download) for part in SETS[name].parts}


def _open(name: str, part: str, root: str, download: bool) -> ImageSet:
    from torchvision import datasets

    entry, folder = SETS[name], Path(root).expanduser()
    try:
        opened = getattr(datasets, entry.kind)(str(folder), download=download, **entry.parts[part])
    except (RuntimeError, OSError) as error:  # of a file that is missing among others, too
        if download:
            raise RuntimeError(f"cannot download {name} to {folder}: {error}") from error
        raise ValueError(
            f"{name} is not, or not whole, in {folder}; let torchvision fetch it by --download, "
            "or name the folder that holds it by --root (in training --data.root)"
        ) from error
    return _images(opened, entry)


def _images(opened: Any, entry: TorchvisionSet) -> ImageSet:
    images = getattr(opened, entry.images)
    if entry.labels is None:
        labels, images = [label for _, label in images], [path for path, _ in images]
    else:
        labels = [int(label) for label in getattr(opened, entry.labels)]
    # SVHN and older versions of Flowers102 name none; Imagenette gives every class several names.
    names = getattr(opened, "classes", None) or range(max(labels) + 1)
    class_names = tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)
    if entry.images != "data":
        return FileImages([Path(path) for path in images], labels, class_names)
    pixels = np.asarray(images)
    return ArrayImages(pixels if pixels.shape[1] != 3 else pixels.transpose(0, 2, 3, 1), labels, class_names)
