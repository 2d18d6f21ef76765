"""Search for image files by paths, folders and patterns."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import escape, glob, has_magic
from pathlib import Path
from typing import IO

from volo.data.images import HEIF, image_extensions
from volo.outputs import MARK_FILE, is_own_folder
from volo.skipped import collect_skipped, note_skipped, only_skipped

_CONVERT = "convert them to JPEG or PNG"
#: Ending of photos that this machine may be unable to read → what would read them.
_REMEDIES = {
    **dict.fromkeys(HEIF, "pip install pillow-heif"),
    ".avif": "update Pillow, which reads AVIF from version 11.3 on",
    **dict.fromkeys((".jxl", ".jxr", ".wdp", ".hdp", ".exr", ".hdr", ".svg", ".xcf"), _CONVERT),
    **dict.fromkeys(
        (*(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
         *(".srw", ".3fr", ".iiq", ".erf", ".mrw", ".x3f", ".raw")),
        "raw photos of a camera; convert them to JPEG or TIFF",
    ),
}  # fmt: skip
#: Endings with something behind those of images, as some programs and sites write them: ``.jpg_large``.
_UNUSUAL = re.compile(r"\.(jpe?g|png|gif|webp|bmp|tiff?)[_:!@?-]")
#: The first bytes of JPEG, PNG, GIF, WebP, TIFF, HEIF and AVIF files.
_PHOTO = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*|....ftyp(hei|hev|mif|avif)", re.DOTALL)
_OWN = "in folders that volo wrote (name one to read it)"
#: Folders in which systems keep files of their own, among them thumbnails of photos.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


def find_images(paths: Sequence[str]) -> list[Path]:
    """Return the image files for paths, folders (all images below them, at any depth) and glob patterns.

    A folder that exists is meant as it is written, even if its name looks like a pattern: ``b[1]/*.jpg``.

    Raises:
        ValueError: A path does not exist, a folder holds no images, or a pattern matches none.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        folder = name != "" and path.is_dir()  # Path("") is the current folder, which the user did not mean
        with collect_skipped() as skipped:
            if folder:
                images = list(images_below(path))
            elif name and path.exists():
                images = [path]
            else:
                images = _select(glob(_as_pattern(name), recursive=True))  # noqa: PTH207  # Path.glob: no absolute ones
        if not images:
            problem = "has no images in it" if folder else "is neither a file, a folder nor a pattern that matches"
            raise ValueError(f"{name or repr(name)} {problem}{only_skipped(skipped)}")
        note_skipped(skipped)
        found += images
    return found


def _as_pattern(name: str) -> str:
    """Return a pattern with its first folders escaped, as far as these exist literally."""
    parts = Path(name).parts
    for count in range(len(parts), 0, -1):
        folder = Path(*parts[:count])
        if has_magic(str(folder)) and folder.is_dir():
            return os.path.join(escape(str(folder)), *parts[count:])  # noqa: PTH118  # Path would drop the escapes
    return name


def _select(names: Iterable[str]) -> list[Path]:
    """Return the images among the matches of a pattern, and note photos that cannot be read."""
    paths = sorted(map(Path, names))
    note_skipped({path: reason for path in paths if (reason := _unread(path))})
    return [path for path in paths if is_image(path.name)]


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
    data: bytes = stream.buffer.read()  # type: ignore[attr-defined]  # every text stream on a file has one
    text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    paths = [Path(name) for name in names if name]
    if not paths:
        raise ValueError("standard input holds no paths; '-' reads paths of images from there, one per line")
    return paths


def images_below(folder: Path) -> Iterator[Path]:
    """Yield all images at any depth below a folder, in a fixed order.

    Hidden files and folders, those of the system, and folders that volo wrote are skipped, unless ``folder`` itself is
    one. When all are listed, photos that cannot be read and those in folders of volo are noted: see
    :mod:`volo.skipped`.

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
    skipped: dict[Path, str] = {}
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        above, kept = ancestors.pop(directory), []
        if MARK_FILE in files and Path(directory) != folder:  # pictures of an evaluation are not images of a data set
            folders.clear()
            skipped |= dict.fromkeys(images_below(Path(directory)), _OWN)
            continue
        for name in sorted(name for name in folders if not _is_of_system(name)):
            path = Path(directory, name)
            if (identity := _identity(path)) not in above:
                kept.append(name)
                # os.path.join gives the same string as os.walk will give for this folder.
                ancestors[os.path.join(directory, name)] = above | {identity}  # noqa: PTH118
        folders[:] = kept  # os.walk visits these only, in this order
        for name in sorted(files):
            if is_image(name):
                yield Path(directory, name)
            elif reason := _unread(Path(directory, name)):
                skipped[Path(directory, name)] = reason
    note_skipped(skipped)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, except for hidden ones, those of the system, and those that volo wrote.

    Raises:
        OSError: The folder cannot be read.
    """
    return [path for path in _visible_folders(folder) if not is_own_folder(path)]


def images_of_volo(folder: Path) -> dict[Path, str]:
    """Return the images in folders that volo wrote into a folder, as :func:`volo.skipped.note_skipped` takes them.

    Raises:
        OSError: A folder cannot be read.
    """
    return {path: _OWN for own in _visible_folders(folder) if is_own_folder(own) for path in images_below(own)}


def _visible_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:  # it knows which are folders; asking for each file would take minutes
        return [
            folder / name
            for name in sorted(entry.name for entry in entries if not _is_of_system(entry.name) and _is_folder(entry))
        ]


def loose_images(folder: Path) -> Iterator[Path]:
    """Yield the images that lie directly in a folder, in any order.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in entries if is_image(entry.name) and not _is_folder(entry))


def _is_of_system(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


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


def _unread(path: Path) -> str | None:
    """Return why a photo is not read and what would read it, or None for an image and for what is no photo."""
    ending = path.suffix.lower()
    if path.name.startswith(".") or ending in image_extensions():
        return None
    if ending in _REMEDIES:
        return f"{ending} ({_REMEDIES[ending]})"
    if unusual := _UNUSUAL.match(ending):
        return f"{ending} (rename them to end in .{unusual[1]})"
    # Files with other endings are not opened: there may be millions of them.
    return "without an ending (rename them, such as to x.jpg)" if not ending and _is_photo(path) else None


def _is_photo(path: Path) -> bool:
    """Return whether a file begins as photos do."""
    try:
        if not path.is_file():  # opening a pipe would block
            return False
        with path.open("rb") as file:
            return _PHOTO.match(file.read(16)) is not None
    except OSError:
        return False
