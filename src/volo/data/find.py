"""Image files by what a person writes."""

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import IO

from volo.data.images import image_extensions


def find_images(paths: Sequence[str]) -> list[Path]:
    """Files for what a person names: files themselves, folders (all images below them), and glob patterns.

    Raises:
        ValueError: a name that stands for nothing.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        folder = name != "" and path.is_dir()  # Path takes no name for the current folder
        if folder:
            images = list(images_below(path))
        elif name and path.exists():
            images = [path]
        else:
            matches = map(Path, glob(name, recursive=True))  # noqa: PTH207  # absolute too
            images = sorted(match for match in matches if is_image(match.name) and match.is_file())
        if not images:
            what = "has no images in it" if folder else "is neither a file, a folder nor a pattern that matches"
            raise ValueError(f"{name or repr(name)} {what}")
        found += images
    return found


def listed_images(stream: IO[str] | None) -> list[Path]:
    """The files that a stream names, one a line, or separated by NUL where it holds one, as ``find -print0`` does.

    Args:
        stream: standard input, or None where the process has none.

    Raises:
        ValueError: it is closed, or names nothing.
    """
    if stream is None or stream.closed:
        raise ValueError("standard input is closed; '-' reads names of files from there, one a line")
    # As bytes, since names of files need not be text.
    text = os.fsdecode(stream.buffer.read())  # type: ignore[attr-defined]  # every text stream on a file has one
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    paths = [Path(name) for name in names if name]
    if not paths:
        raise ValueError("standard input names no files; '-' reads them from there, one a line")
    return paths


def images_below(folder: Path) -> Iterator[Path]:
    """All images at any depth below a folder, in a fixed order; what is hidden is passed over.

    Raises:
        OSError: a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    around = {_identity(place) for place in (folder, *folder.resolve().parents)} - {None}
    above = {str(folder): around}
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here, kept = above.pop(directory), []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(directory, name)
            if (identity := _identity(path)) not in here:  # a link to a folder above would be followed for ever
                kept.append(name)
                above[os.path.join(directory, name)] = here | {identity}  # noqa: PTH118  # as os.walk will name it
        folders[:] = kept
        yield from (Path(directory, name) for name in sorted(files) if is_image(name))


def _identity(folder: Path) -> tuple[int, int] | None:
    """The same for every path of a folder; None where it may not be looked at."""
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; hidden ones are none: systems keep notes of their own in those."""
    return not name.startswith(".") and name[name.rfind(".") :].lower() in image_extensions()
