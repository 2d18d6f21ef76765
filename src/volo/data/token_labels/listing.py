"""The manifest of an image set, which a store of token labels keeps to detect later changes of the images."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volo.data.images import Converted, FileImages, ImageSet


@dataclass(frozen=True)
class ImageManifest:
    """Name, file size and label of every image of a set.

    Attributes:
        names: paths relative to the folder of the data; for images that are not in files, their names in the set.
        sizes: (images,) int64, bytes of every file; -1 for a missing file and for an image that is not in a file.
        labels: (images,) int32, class indices.
    """

    names: list[str]
    sizes: np.ndarray
    labels: np.ndarray

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, sizes and labels, hexadecimal."""
        digest = hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape"))
        digest.update(self.sizes.astype("<i8").tobytes())
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()


def list_images(images: ImageSet, data: str) -> ImageManifest:
    """List the images with name, file size and label.

    Args:
        images: the images.
        data: path or name of the data as the user gave it. File names are stored relative to a folder: the data's own,
            that of the table, or, for the name of a data set, the folder that all files share.
    """
    labels = np.asarray(images.labels, dtype=np.int32)
    files = image_files(images)
    if files is None:
        return ImageManifest([images.name(i) for i in range(len(labels))], np.full(len(labels), -1, np.int64), labels)
    sizes = np.fromiter((_size(path) for path in files), np.int64, count=len(labels))
    return ImageManifest(_names(files, data), sizes, labels)


def image_files(images: ImageSet) -> list[Path] | None:
    """Return the files of the images, or None if the images are not in files."""
    while isinstance(images, Converted):
        images = images.images
    return list(images.paths) if isinstance(images, FileImages) else None


def _names(files: list[Path], data: str) -> list[str]:
    """Return the paths relative to the folder of ``data``, see :func:`list_images`."""
    named = Path(data)
    folders = {path.parent for path in files}
    if named.exists():
        top = str(named if named.is_dir() else named.parent)
    else:
        top = os.path.commonpath(folders) if folders else ""
    below = {folder: Path(os.path.relpath(folder, top)) for folder in folders}
    return [(below[path.parent] / path.name).as_posix() for path in files]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
