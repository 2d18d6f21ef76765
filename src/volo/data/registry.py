"""Opening data by what a person writes: a folder, or the name of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from volo.data.embedded import fashion_mini
from volo.data.folder import open_folder, open_validation
from volo.data.images import Converted, FileImages, ImageSet
from volo.data.modes import BACKGROUND, mode_of
from volo.names import nearest

#: name → a function that gives training and validation images.
DATASETS: Mapping[str, Callable[[], tuple[ImageSet, ImageSet]]] = {"fashion-mini": fashion_mini}


def open_data(path: str, *, val_fraction: float = 0.1, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Training and validation images of a folder or of a named data set.

    Args:
        path: a folder of class folders (see :func:`volo.data.folder.open_folder`) or a key of ``DATASETS``.
        val_fraction: the share of every class for validation, where the folder has no val folder.
        seed: draws that share.

    Raises:
        ValueError: there is no such folder or name, or the folder is not laid out as needed.
    """
    root = _existing_folder(path)
    return DATASETS[path]() if root is None else open_folder(root, val_fraction=val_fraction, seed=seed)


def open_validation_data(path: str) -> ImageSet:
    """The validation images of a folder or of a named data set.

    Raises:
        ValueError: there is no such folder or name, or the folder is not laid out as needed.
    """
    root = _existing_folder(path)
    return DATASETS[path]()[1] if root is None else open_validation(root)


def with_channels(images: ImageSet, channels: int, background: str = BACKGROUND) -> ImageSet:
    """The same images, read as grey (1 channel), colour (3), or colour and transparency (4).

    Raises:
        ValueError: another number of channels.
    """
    mode_of(channels)
    if isinstance(images, FileImages):
        return replace(images, channels=channels, background=background)
    return images if images.channels == channels else Converted(images, channels, background)


def _existing_folder(path: str) -> Path | None:
    """The folder at ``path``, or None where ``path`` is the name of a data set."""
    root = Path(path)
    if root.is_dir():
        return root
    if path in DATASETS:
        return None
    if root.exists():
        raise ValueError(f"{path} is a file; give a folder of class folders or one of: {', '.join(DATASETS)}")
    raise ValueError(f"no folder and no data set is named {path!r}{nearest(path, DATASETS)}")
