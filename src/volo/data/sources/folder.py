"""Folders with one folder per class, with or without train, val and test folders above them."""

from functools import partial
from pathlib import Path

from volo.data.find import images_below
from volo.data.images import FileImages
from volo.data.splits import SPLIT_ALIASES, UNSPLIT, Splits
from volo.messages import join_few


def folder_splits(root: Path, *, nested: bool = False) -> Splits:
    """Return the splits of ``root``: its folders train, val and test, by any of ``SPLIT_ALIASES``, or the whole folder.

    Upper and lower case do not matter. If there is no train folder, or no other split beside it, a folder with such a
    name counts as a split only if it holds class folders and no images; otherwise it is a class.

    Args:
        root: the folder.
        nested: as for :func:`list_folder`.

    Raises:
        ValueError: One folder looks like a split, but there are class folders beside it.
    """
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    named = {
        split: folders[word] for split, words in SPLIT_ALIASES.items() for word in reversed(words) if word in folders
    }
    if not ("train" in named and len(named) > 1):
        named = {split: folder for split, folder in named.items() if _holds_only_folders(folder)}
        classes = [folder.name for folder in _folders(root) if folder not in named.values() and _has_images(folder)]
        if named and classes:
            first = next(iter(named.values()))
            raise ValueError(
                f"{first} looks like a split, because it holds class folders, but there are class folders beside it: "
                f"{join_few(classes)}; give {first} itself, or put all class folders into train and val folders"
            )
    if not named:
        return {UNSPLIT: partial(list_folder, root, nested=nested)}
    return {split: partial(list_folder, folder, nested=nested) for split, folder in named.items()}


def list_folder(root: Path, *, nested: bool = False) -> FileImages:
    """List the images of ``root/<class>/``, at any depth, with the classes in alphabetical order.

    Hidden folders and files are skipped.

    Args:
        root: the folder of class folders.
        nested: every folder below ``root`` that directly holds images is a class, named by its path below ``root``.

    Raises:
        ValueError: There are no class folders, or a class folder holds no images.
    """
    listed = _nested_classes(root) if nested else {folder.name: list(images_below(folder)) for folder in _folders(root)}
    if not listed:
        raise ValueError(
            f"{root} has no class folders; expected {root}/<class>/<image>, or train and val folders of that form"
        )
    empty = [root / name for name, images in listed.items() if not images]
    if empty:
        raise ValueError(f"no images in {join_few(empty)}; put images there (.jpg, .png, .webp …) or remove the folder")
    class_names = tuple(sorted(listed))
    paths = [path for name in class_names for path in listed[name]]
    labels = [label for label, name in enumerate(class_names) for _ in listed[name]]
    return FileImages(paths, labels, class_names)


def _nested_classes(root: Path) -> dict[str, list[Path]]:
    listed: dict[str, list[Path]] = {}
    for path in images_below(root):
        if path.parent != root:  # images directly in root belong to no class
            listed.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    return listed


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: Path) -> bool:
    return next(images_below(folder), None) is not None


def _holds_only_folders(folder: Path) -> bool:
    """Return whether a folder has subfolders and no images beside them."""
    first = next(images_below(folder), None)
    return bool(_folders(folder)) and (first is None or first.parent != folder)
