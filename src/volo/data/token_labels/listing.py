"""The files of an image set as a store of token labels remembers them, to see later whether they are still the same."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volo.data.images import Converted, FileImages, ImageSet


@dataclass(frozen=True)
class ImageManifest:
    """Images by name.

    Attributes:
        names: paths below the folder of the data, or the images' own names where they are no files.
        sizes: (images,) int64, bytes of every file, -1 where there is none.
        labels: (images,) int32, class indices.
    """

    names: list[str]
    sizes: np.ndarray
    labels: np.ndarray

    def fingerprint(self) -> str:
        """SHA-256 of all three, hexadecimal."""
        digest = hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape"))
        digest.update(self.sizes.astype("<i8").tobytes())
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()


def list_images(images: ImageSet, data: str) -> ImageManifest:
    """The images by name, size and label.

    Args:
        images: of a folder, or of a data set that is no folder.
        data: what the person named to open them: names of files are taken below it.
    """
    labels = np.asarray(images.labels, dtype=np.int32)
    files = image_files(images)
    if files is None:
        return ImageManifest([images.name(i) for i in range(len(labels))], np.full(len(labels), -1, np.int64), labels)
    sizes = np.fromiter((_size(path) for path in files), np.int64, count=len(labels))
    return ImageManifest(_names(files, data), sizes, labels)


def image_files(images: ImageSet) -> list[Path] | None:
    """The files of the images, or None where they are no files."""
    while isinstance(images, Converted):
        images = images.images
    return list(images.paths) if isinstance(images, FileImages) else None


def _names(files: list[Path], data: str) -> list[str]:
    """Paths below the folder of the data: what was named, where the table lies that was, or what all files share."""
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
