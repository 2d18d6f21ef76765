"""Folders of images, one folder a class: with train, val and test folders above them, or without."""

from functools import partial
from pathlib import Path

from volo.data.find import images_below
from volo.data.images import FileImages
from volo.data.splits import SPLIT_ALIASES, UNSPLIT, Splits
from volo.messages import join_few


def folder_parts(root: Path, *, nested: bool = False) -> Splits:
    """The parts of ``root``: its folders ``train``, ``val`` and ``test`` (other usual words are known), or the whole.

    Capitals in these names do not matter. A folder that bears such a name without its counterpart is a part where it
    holds class folders, and a class like the others where it holds images.

    Raises:
        ValueError: one folder alone looks like a part, and others beside it look like classes.
    """
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    named = {
        part: folders[word] for part, words in SPLIT_ALIASES.items() for word in reversed(words) if word in folders
    }
    if not ("train" in named and len(named) > 1):
        named = {part: folder for part, folder in named.items() if _holds_folders_alone(folder)}
        classes = [folder.name for folder in _folders(root) if folder not in named.values() and _has_images(folder)]
        if named and classes:
            part = next(iter(named.values()))
            raise ValueError(
                f"{part} holds class folders and would be a part of the data, but beside it lie images in "
                f"{join_few(classes)}; give {part} itself, or put all class folders into train and val folders"
            )
    if not named:
        return {UNSPLIT: partial(list_folder, root, nested=nested)}
    return {part: partial(list_folder, folder, nested=nested) for part, folder in named.items()}


def list_folder(root: Path, *, nested: bool = False) -> FileImages:
    """List ``root/<class>/*``, classes in alphabetical order, images at any depth below them.

    With ``nested``, every folder that holds images itself is a class, named by its path below ``root``. Hidden
    folders and files are passed over.

    Raises:
        ValueError: no class folders, or a class folder without images.
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
        if path.parent != root:  # what lies beside the folders belongs to no class
            listed.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    return listed


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: Path) -> bool:
    return next(images_below(folder), None) is not None


def _holds_folders_alone(folder: Path) -> bool:
    """Whether a folder has folders in it and no images beside these."""
    first = next(images_below(folder), None)
    return bool(_folders(folder)) and (first is None or first.parent != folder)
