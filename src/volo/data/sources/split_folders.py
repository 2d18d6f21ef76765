"""Recognition of the split folders of a data set, by their names and by what they hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from volo.data.find import images_below, loose_images, subfolders
from volo.data.splits import SPLIT_ALIASES, split_named, split_within
from volo.messages import join_few, printable
from volo.skipped import note_skipped

_AS_CLASSES = "add --nested false (volo train: --data.nested false)"


@dataclass(frozen=True)
class _Candidate:
    """A folder with a split in its name.

    Attributes:
        folder: the folder.
        split: the split.
        whole: the whole name is an alias of the split (``Train``), not only one of its words (``training_set``).
    """

    folder: Path
    split: str
    whole: bool

    @cached_property
    def place(self) -> Path:
        """The folder, or the one of the same split that is alone in it, as archives unpack to ``train/train``."""
        return _only_folder_of_split(self.folder, self.split)

    @cached_property
    def classes(self) -> frozenset[str]:
        """Names of the class folders."""
        return frozenset(folder.name for folder in subfolders(self.place))

    @cached_property
    def is_filled(self) -> bool:
        """Whether it holds class folders, and no images beside them."""
        return bool(self.classes) and not _holds_images(self.place)

    @cached_property
    def is_unlabeled(self) -> bool:
        """Whether it holds images without class folders."""
        return not self.classes and _holds_images(self.place)


def find_split_folders(root: Path, nested: bool | None) -> dict[str, Path]:
    """Return split → the folder of its class folders; empty if ``root`` is not divided into splits.

    Candidates are folders with an alias of a split as their name (``Train``) or as one of its words
    (``training_set``). They are the splits

    - if a train folder and another one have an alias as their whole name, or hold class folders of the same names; then
      images in other folders are noted as skipped;
    - if they hold class folders, no images beside these, and if nothing but candidates is in ``root``.

    A candidate that holds images without class folders is left out and noted if the train folder has class folders.

    Args:
        root: the folder.
        nested: as for :func:`volo.data.sources.folder.folder_splits`. False takes only whole names for splits; True
            takes folders for classes where None raises an error because both could be meant.

    Raises:
        ValueError: It is not clear whether a folder is a split or a class, or two folders are the same split.
    """
    folders = subfolders(root)
    named = [
        _Candidate(folder, split, split_named(folder.name) is not None)
        for folder in folders
        if (split := (split_named if nested is False else split_within)(folder.name))
    ]
    whole = [each for each in named if each.whole]
    whole = whole if _are_train_and_other(whole) else []
    splits = [each for each in named if each.is_filled or each in whole]
    filled_train = any(each.split == "train" and each.classes for each in splits)
    unlabeled = [each for each in named if filled_train and each.is_unlabeled]
    splits = [each for each in splits if each not in unlabeled]
    if not splits:
        return {}
    known = {each.folder for each in (*splits, *unlabeled)}
    others = [folder for folder in folders if folder not in known and next(images_below(folder), None)]
    share = len(splits) == 1 or bool(frozenset.intersection(*(each.classes for each in splits)))
    sure = bool(whole) or (share and _are_train_and_other(splits))
    doubtful = not all(each.whole for each in splits)
    if not sure and (others or (doubtful and not share)):
        if nested and doubtful:
            return {}
        raise ValueError(_ambiguous(root, splits, others))
    note_skipped(dict.fromkeys(sorted(loose_images(root)), "beside the folders of the splits"))
    for folder in others:
        note_skipped(dict.fromkeys(images_below(folder), "in folders beside those of the splits"))
    for each in unlabeled:
        note_skipped(dict.fromkeys(sorted(loose_images(each.place)), "in a split without class folders"))
    return _by_split(splits)


def find_splits_in_classes(root: Path) -> dict[str, dict[str, Path]]:
    """Return split → class → its folder if the class folders hold the splits (``cat/train``); else an empty dictionary.

    Raises:
        ValueError: The folders of ``root`` are not, or may not be, its classes: the message tells what else they
            may be, and how to choose.
    """
    folders = subfolders(root)
    _check_names(root, folders)
    inner = {folder: subfolders(_unwrapped(folder)) for folder in folders if not _holds_images(folder)}
    named = {folder: {split_named(each.name): each for each in found} for folder, found in inner.items()}
    divided = [found for found in named.values() if {"train"} < found.keys() - {None}]
    if divided and len(folders) > 1 and all(_holds_splits(inner.get(folder, [])) for folder in folders):
        return {
            split: {folder.name: found[split] for folder, found in named.items() if split in found}
            for split in SPLIT_ALIASES
            if any(split in found for found in named.values())
        }
    if divided:
        place = divided[0]["train"].parent
        raise ValueError(
            f"{printable(place)} holds split folders ({join_few(each.name for each in subfolders(place))}); give it "
            f"itself, or if the folders of {printable(root)} are the classes, {_AS_CLASSES}"
        )
    names = {tuple(each.name for each in found) for found in inner.values()}
    if len(inner) == len(folders) and len(names) == 1 and len(classes := names.pop()) > 1:
        _check_readings(root, folders, classes)
    return {}


def _holds_splits(inner: Sequence[Path]) -> bool:
    """Return whether the folders in a class folder are its images of the splits."""
    splits = {split_named(folder.name): folder for folder in inner}
    return "train" in splits and None not in splits and len(splits) == len(inner) and _holds_images(splits["train"])


def _check_names(root: Path, folders: Sequence[Path]) -> None:
    """Check that the folders are not all named as splits; those with class folders are splits, so these have none.

    Raises:
        ValueError: They are.
    """
    splits = {split_within(folder.name) for folder in folders}
    if None not in splits and "train" in splits and len(splits) > 1:
        raise ValueError(
            f"{join_few(folder.name for folder in folders)} in {printable(root)} look like splits, but have no class "
            f"folders; expected {printable(folders[0])}/<class>/<image>; if they are the classes, {_AS_CLASSES}"
        )


def _check_readings(root: Path, folders: Sequence[Path], inner: Sequence[str]) -> None:
    """Check whether folders that hold only folders, of the same names, are the classes.

    Raises:
        ValueError: The inner folders may be the classes instead.
    """
    if len(folders) == 1 and folders[0].name.lower() != root.resolve().name.lower():
        return  # images of one class, in folders that mean something else
    outer = join_few(folder.name for folder in folders)
    if len(folders) == 1:
        advice = f"give {printable(folders[0])}"
    else:
        advice = f"give the folder of one of {outer}, or rename them to train, val and test"
    raise ValueError(
        f"{outer} in {printable(root)} may be classes, or hold them: if {join_few(inner)} are the classes, {advice}; "
        f"if {outer} {'is one' if len(folders) == 1 else 'are the classes'}, {_AS_CLASSES}"
    )


def _only_folder_of_split(folder: Path, split: str) -> Path:
    inner = subfolders(folder)
    alone = len(inner) == 1 and split_within(inner[0].name) == split and not _holds_images(folder)
    return inner[0] if alone else folder


def _unwrapped(folder: Path) -> Path:
    """Return the folder of the same name that is alone in a folder, or else the folder itself."""
    inner = subfolders(folder)
    return inner[0] if len(inner) == 1 and inner[0].name.lower() == folder.name.lower() else folder


def _holds_images(folder: Path) -> bool:
    return next(loose_images(folder), None) is not None


def _are_train_and_other(candidates: Iterable[_Candidate]) -> bool:
    splits = {each.split for each in candidates}
    return "train" in splits and len(splits) > 1


def _by_split(candidates: Sequence[_Candidate]) -> dict[str, Path]:
    """Return split → folder, in the order of the splits.

    Raises:
        ValueError: Two folders are the same split.
    """
    found: dict[str, Path] = {}
    for split in SPLIT_ALIASES:
        for each in candidates:
            if each.split == split and found.setdefault(split, each.place) != each.place:
                raise ValueError(
                    f"{printable(found[split])} and {printable(each.place)} both look like the {split} split; join "
                    "them, or move one of them elsewhere"
                )
    return found


def _ambiguous(root: Path, splits: Sequence[_Candidate], others: Sequence[Path]) -> str:
    """Return the error message about folders that may be splits or classes."""
    first = printable(splits[0].place)
    classes = "" if all(each.whole for each in splits) else f"; if all of them are classes, {_AS_CLASSES}"
    if others:
        beside = join_few(printable(folder.name) for folder in others)
        return (
            f"{first} looks like a split, because it holds class folders, but there are class folders beside it: "
            f"{beside}; give {first} itself, or put all class folders into train and val folders{classes}"
        )
    listed = " and ".join(f"{printable(each.place)} ({join_few(sorted(each.classes))})" for each in splits)
    return f"{listed} look like splits, but have no class in common; if they are splits, give one of them{classes}"
