"""The identity of images: keys by which the images of a data set are recognized later, also in another place."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from volo.data.images import ArrayImages, Converted, FileImages, ImageSet
from volo.data.registry import DataSource
from volo.data.segmentation.pairs import MaskedImages

#: Number of images of a set, evenly spaced, of which the content is compared, too: opening every file of a large data
#: set would take minutes.
SAMPLED = 1000
#: Bytes from the middle of a file that, with its size, stand for its content.
_BLOCK = 1024


def data_root(path: str, source: DataSource) -> Path:
    """Return the folder of a data set, to which the names of its images are relative.

    Args:
        path: as for :func:`volo.data.open_data`.
        source: how to read ``path``.
    """
    place = Path(path)
    if place.is_dir():
        return place
    return place.parent if place.is_file() else Path(source.root).expanduser()


def file_paths(images: ImageSet | MaskedImages) -> Sequence[Path] | None:
    """Return the path of every image, or None if the images are not in files of their own."""
    if isinstance(images, MaskedImages):
        return images.image_paths
    return images.paths if isinstance(images, FileImages) else None


def names_below(paths: Sequence[Path], root: Path, base: Path | None = None) -> list[str | None]:
    """Return the name of every file relative to ``base``, or None where the file is not below this folder.

    Names are equal on every system: they have slashes and one Unicode form. Links of files and of folders within
    ``root`` are not resolved.

    Args:
        paths: of the files.
        root: the folder of the data, from :func:`data_root`.
        base: another folder; None takes ``root`` itself, and gives a file elsewhere its absolute path as name.
    """
    prefix = "" if root == Path() else os.path.join(root, "")  # noqa: PTH118  # ends with a separator
    names: list[str | None] = [os.fspath(path).removeprefix(prefix) for path in paths]
    if base is not None:
        real, inner = os.path.realpath(root), os.path.join(os.path.realpath(base), "")  # noqa: PTH118
        places = [os.path.join(real, str(name)) for name in names]  # noqa: PTH118  # faster than Path
        names = [place.removeprefix(inner) if place.startswith(inner) else None for place in places]
    return [name and unicodedata.normalize("NFC", name.replace(os.sep, "/")) for name in names]


def name_keys(names: Iterable[str | None]) -> np.ndarray:
    """Return a key for every name: (N,) int64; 0 for None."""
    return _hashes(None if name is None else name.encode("utf-8", "surrogatepass") for name in names)


def pixel_keys(images: ImageSet | MaskedImages) -> np.ndarray:
    """Return a key for every image in memory, made of its pixels: (N,) int64."""
    if isinstance(images, Converted):
        return pixel_keys(images.images)
    assert isinstance(images, ArrayImages), "every data set is in files or in memory"
    return _hashes(image.tobytes() for image in images.images)


def content_keys(paths: Iterable[Path]) -> np.ndarray:
    """Return a key for the content of every file: (N,) int64; 0 for a file that cannot be read."""
    return _hashes(map(_content, paths))


def sampled(count: int) -> np.ndarray:
    """Return the indices, among ``count`` images, of those whose content is compared."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(SAMPLED, count)).round().astype(np.int64))


def _hashes(contents: Iterable[bytes | None]) -> np.ndarray:
    """Return eight bytes of a hash of each content as int64; 0 for None."""
    none = bytes(8)
    digests = (none if text is None else hashlib.blake2b(text, digest_size=8).digest() for text in contents)
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def _content(path: Path) -> bytes | None:
    """Return the bytes that stand for the content of a file, or None if it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            return None
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size // 2)
            return size.to_bytes(8, "little") + file.read(_BLOCK)
    except OSError:
        return None
