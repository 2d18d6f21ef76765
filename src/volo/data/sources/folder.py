"""Folders with one folder per class, with or without train, val and test folders above them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from volo.data.find import images_below, images_of_volo, loose_images, subfolders
from volo.data.images import FileImages
from volo.data.sources.split_folders import find_split_folders, find_splits_in_classes
from volo.data.sources.table import TABLE_EXTENSIONS
from volo.data.splits import UNSPLIT, Splits
from volo.messages import join_few, normalized, printable
from volo.skipped import collect_skipped, note_skipped, only_skipped


def folder_splits(root: Path, *, nested: bool | None = None) -> Splits:
    """Return the splits of ``root``: its folders train, val and test, or the whole folder.

    Their names are recognized as :func:`volo.data.sources.split_folders.find_split_folders` describes. The splits may
    also lie in the class folders: ``cat/train``.

    Args:
        root: the folder.
        nested: True takes every folder below ``root`` that directly holds images for a class, see :func:`list_folder`.
            None takes the folders of the first level, and raises an error if others may be meant; False takes them in
            any case, except for folders that are named as splits.

    Raises:
        ValueError: The folders of ``root`` may be splits or classes, or the classes may be in the folders of ``root``;
            the message tells how to choose.
    """
    splits = find_split_folders(root, nested)
    if splits:
        return {split: partial(list_folder, folder, nested=bool(nested)) for split, folder in splits.items()}
    if nested is None and (inside := find_splits_in_classes(root)):
        return {split: partial(_open_classes, folders) for split, folders in inside.items()}
    return {UNSPLIT: partial(list_folder, root, nested=bool(nested))}


def list_folder(root: Path, *, nested: bool = False) -> FileImages:
    """List the images of ``root/<class>/``, at any depth, with the classes in alphabetical order.

    Hidden folders and files are skipped. Images beside the class folders are noted, see :mod:`volo.skipped`.

    Args:
        root: the folder of class folders.
        nested: every folder below ``root`` that directly holds images is a class, named by its path below ``root``.

    Raises:
        ValueError: There are no class folders, or a class folder holds no images.
    """
    loose = sorted(loose_images(root))
    listed = _nested_classes(root) if nested else _list_classes({folder.name: folder for folder in subfolders(root)})
    if not listed:
        count = f", only {len(loose):,} images" if loose else ""
        raise ValueError(
            f"{printable(root)} has no class folders{count}; expected {printable(root)}/<class>/<image>, or train and "
            f"val folders of that form{_tables(root)}"
        )
    note_skipped(dict.fromkeys(loose, "beside the class folders (move them into one)") | images_of_volo(root))
    return _labeled(listed)


def _tables(root: Path) -> str:
    """Return advice to give one of the tables in a folder, if there is one."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_EXTENSIONS)
    return f", or a table of paths and labels: {printable(tables[0])}" if tables else ""


def _list_classes(folders: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Return the images below the folder of every class.

    Raises:
        ValueError: A class folder holds no images.
    """
    with collect_skipped() as skipped:
        listed = {name: list(images_below(folder)) for name, folder in folders.items()}
    empty = [folders[name] for name, images in listed.items() if not images]
    if empty:
        unread = {path: reason for path, reason in skipped.items() if any(map(path.is_relative_to, empty))}
        raise ValueError(
            f"no images in {join_few(map(printable, empty))}{only_skipped(unread)}; put images there (.jpg, .png, "
            ".webp …) or remove the folder"
        )
    note_skipped(skipped)
    return listed


def _open_classes(folders: Mapping[str, Path]) -> FileImages:
    return _labeled(_list_classes(folders))


def _labeled(listed: Mapping[str, Sequence[Path]]) -> FileImages:
    """Return the images with the normalized names of their classes; folders may differ in what cannot be seen."""
    pairs = [("/".join(map(normalized, name.split("/"))), path) for name in sorted(listed) for path in listed[name]]
    if nameless := next((path for name, path in pairs if not name), None):
        raise ValueError(f"the folder of {printable(nameless)} has a name that cannot be seen; rename it")
    class_names = tuple(sorted({name for name, _ in pairs}))
    index = {name: label for label, name in enumerate(class_names)}
    pairs.sort(key=lambda pair: index[pair[0]])  # stable: images of a class keep their order
    return FileImages([path for _, path in pairs], [index[name] for name, _ in pairs], class_names)


def _nested_classes(root: Path) -> dict[str, list[Path]]:
    listed: dict[str, list[Path]] = {}
    for path in images_below(root):
        if path.parent != root:  # images directly in root belong to no class
            listed.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    return listed
