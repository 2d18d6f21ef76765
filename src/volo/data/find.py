"""Search for image files by paths, folders and patterns."""

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import IO

from volo.data.images import image_extensions


def find_images(paths: Sequence[str]) -> list[Path]:
    """Return the image files for paths, folders (all images below them, at any depth) and glob patterns.

    Raises:
        ValueError: A path does not exist, a folder holds no images, or a pattern matches none.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        folder = name != "" and path.is_dir()  # Path("") is the current folder, which the user did not mean
        if folder:
            images = list(images_below(path))
        elif name and path.exists():
            images = [path]
        else:
            matches = map(Path, glob(name, recursive=True))  # noqa: PTH207  # Path.glob refuses absolute patterns
            images = sorted(match for match in matches if is_image(match.name) and match.is_file())
        if not images:
            problem = "has no images in it" if folder else "is neither a file, a folder nor a pattern that matches"
            raise ValueError(f"{name or repr(name)} {problem}")
        found += images
    return found


def listed_images(stream: IO[str] | None) -> list[Path]:
    """Read paths of files from a stream: one per line, or separated by NUL as ``find -print0`` writes them.

    Args:
        stream: standard input, or None where the process has none. A NUL anywhere in it makes NUL the separator.

    Raises:
        ValueError: The stream is closed or holds no paths.
    """
    if stream is None or stream.closed:
        raise ValueError("standard input is closed; '-' reads paths of images from there, one per line")
    # The bytes are read, because names of files need not be valid text.
    text = os.fsdecode(stream.buffer.read())  # type: ignore[attr-defined]  # every text stream on a file has one
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    paths = [Path(name) for name in names if name]
    if not paths:
        raise ValueError("standard input holds no paths; '-' reads paths of images from there, one per line")
    return paths


def images_below(folder: Path) -> Iterator[Path]:
    """Yield all images at any depth below a folder, in a fixed order. Hidden files and folders are skipped.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    # Symbolic links are followed, so a link to a folder above would lead to an endless walk. ``ancestors`` maps every
    # folder that os.walk will visit to the (device, inode) of itself and of all folders above it. A subfolder whose
    # identity is among them is such a link and is skipped; links to other folders are read.
    top = {_identity(place) for place in (folder, *folder.resolve().parents)} - {None}
    ancestors = {str(folder): top}
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        above, kept = ancestors.pop(directory), []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(directory, name)
            if (identity := _identity(path)) not in above:
                kept.append(name)
                # os.path.join gives the same string as os.walk will give for this folder.
                ancestors[os.path.join(directory, name)] = above | {identity}  # noqa: PTH118
        folders[:] = kept  # os.walk visits these only, in this order
        yield from (Path(directory, name) for name in sorted(files) if is_image(name))


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return (device, inode), which is equal for all paths of one folder, or None if access is denied."""
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def is_image(name: str) -> bool:
    """Return whether a file name has the ending of an image. Hidden files (``._x.jpg``, thumbnails) are skipped."""
    return not name.startswith(".") and name[name.rfind(".") :].lower() in image_extensions()
