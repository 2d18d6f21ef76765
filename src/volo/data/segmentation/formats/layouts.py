"""Supported layouts of folders with images and masks: the usual ones, CamVid, ADE20K and Cityscapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from volo.data.class_names import file_or_names
from volo.data.find import images_below, subfolders
from volo.data.images import MAX_PIXELS, ImageError
from volo.data.segmentation.classes import MaskClasses, known_classes, read_classes
from volo.data.segmentation.formats.masks import mask_values
from volo.data.segmentation.pairs import MaskedImages, PairSplits, check_sizes, match_pairs
from volo.data.splits import SPLIT_ALIASES, UNSPLIT
from volo.messages import join_few

#: Usual names of the two folders; upper and lower case do not matter.
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation")

#: Endings that the name of a mask may have after the name of its image.
MASK_ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_L", "_P")

#: Name of the classes file beside the two folders.
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Layout:
    """The folders of a data set with images and masks, and the format of its files.

    Attributes:
        folders: split → (folder of its images, folder of its masks).
        known: name of the public data set whose classes apply, for :func:`known_classes`; None needs a classes file.
        renumbered: masks hold the class indices of the public data set instead of its original values.
        palette: masks are color pictures.
        image_ending: ending of the names of images, before the file extension.
        mask_endings: possible endings of the names of masks, before the file extension.
    """

    folders: Mapping[str, tuple[Path, Path]]
    known: str | None = None
    renumbered: bool = False
    palette: bool = False
    image_ending: str = ""
    mask_endings: Sequence[str] = field(default=MASK_ENDINGS)

    def classes(self) -> MaskClasses | None:
        """Return the classes of the public data set, or None if a classes file is needed."""
        if self.known is None:
            return None
        classes = known_classes(self.known)
        return classes.renumbered() if self.renumbered else classes


def find_layout(root: Path) -> Layout | None:
    """Return the layout of ``root``, or None if it does not hold images with masks in a supported layout."""
    if not root.is_dir():
        return None
    return _cityscapes(root) or _camvid(root) or _segnet(root) or _pairs(root)


def open_layout(
    root: Path, *, classes: str | tuple[str, ...] | None = None, palette: bool = False, max_pixels: int = MAX_PIXELS
) -> PairSplits:
    """Return the splits of a folder of images and masks, as functions that list and check them.

    The functions raise ValueError if there are no pairs, an image or a mask has no partner, or sizes differ.

    Args:
        root: the folder.
        classes: path of the classes file, or the names of the classes with the values 0, 1, 2 …; None takes
            ``classes.txt`` in ``root``, or the classes of the public data set with this layout.
        palette: read the classes of masks from their colors.
        max_pixels: images and masks with more pixels, according to their headers, are not decoded.

    Raises:
        ValueError: The layout is not supported, or the classes are not known.
    """
    layout = find_layout(root)
    if layout is None:
        raise ValueError(
            f"{root} has no images with masks; expected {root}/images and {root}/masks with files of the same names "
            "(train and val folders may be inside or outside of them), or the folders of CamVid, ADE20K or Cityscapes"
        )
    palette = palette or layout.palette
    mask_classes = _classes(root, layout, classes, palette)

    def open_split(split: str) -> MaskedImages:
        pairs = match_pairs(*layout.folders[split], layout.image_ending, layout.mask_endings)
        images, masks = [image for image, _ in pairs], [mask for _, mask in pairs]
        found = MaskedImages(images, masks, mask_classes, palette, max_pixels=max_pixels)
        check_sizes(found)
        return found

    return {split: partial(open_split, split) for split in layout.folders}


def _classes(root: Path, layout: Layout, classes: str | tuple[str, ...] | None, palette: bool) -> MaskClasses:
    """Return the classes that the user names, those of ``classes.txt`` in ``root``, or those of a public data set."""
    source = file_or_names(classes) if classes else root / CLASSES_FILE
    if isinstance(source, tuple):
        mask_classes: MaskClasses | None = MaskClasses.named(source)
    else:
        mask_classes = read_classes(source) if source.is_file() else layout.classes()
    if mask_classes is None:
        raise ValueError(
            f"the classes of {root} are unknown: write {source} with one line for each value of its masks, from 0 on: "
            f"a name and, optionally, #rrggbb; or give another file with --classes FILE (volo train: --data.classes "
            f"FILE){_first_values(layout)}"
        )
    if palette:
        _ = mask_classes.codes  # raises ValueError if a class has no color
    return mask_classes


def _first_values(layout: Layout) -> str:
    """Return the end of an error message with the values of the first masks, for which the user needs classes."""
    _, folder = next(iter(layout.folders.values()))
    seen: set[int] = set()
    for path, _ in zip(images_below(folder), range(20), strict=False):
        try:
            seen.update(set(mask_values(path).reshape(-1).tolist()))
        except ImageError:
            return ""
    return f"; the first masks hold {join_few(sorted(seen))}" if seen else ""


def _subfolders(root: Path) -> dict[str, Path]:
    """Return {name in lower case: path} of the folders in ``root`` that :func:`subfolders` returns."""
    return {folder.name.lower(): folder for folder in subfolders(root)}


def _splits_in(root: Path) -> dict[str, Path]:
    """Return {split: path} of the folders in ``root`` that are named after a split."""
    folders = _subfolders(root)
    named = {split: [folders[word] for word in words if word in folders] for split, words in SPLIT_ALIASES.items()}
    return {split: found[0] for split, found in named.items() if found}


def _two_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the folder of images and the folder of masks in ``root``, or None if one is missing."""
    folders = _subfolders(root)
    images = next((folders[word] for word in IMAGE_FOLDERS if word in folders), None)
    masks = next((folders[word] for word in MASK_FOLDERS if word in folders), None)
    return None if images is None or masks is None else (images, masks)


def _pairs(root: Path) -> Layout | None:
    """Find the folders ``images`` and ``masks``, with splits inside or outside of them; ADE20K has this layout."""
    both = _two_folders(root)
    if both is None:
        by_split = {split: _two_folders(folder) for split, folder in _splits_in(root).items()}
        folders = {split: found for split, found in by_split.items() if found is not None}
        return Layout(folders) if folders else None
    images, masks = _splits_in(both[0]), _splits_in(both[1])
    if not images.keys() & masks.keys():
        return Layout({UNSPLIT: both})
    splits = {split: (images[split], masks[split]) for split in images if split in masks}
    ade20k = root.name == "ADEChallengeData2016" or (root / "objectInfo150.txt").is_file()
    return Layout(splits, known="ade20k" if ade20k else None)


def _segnet(root: Path) -> Layout | None:
    """Find CamVid as SegNet's authors publish it: ``train`` and ``trainannot``, ``val`` and ``valannot``, and so on."""
    folders = _subfolders(root)
    names = {split: (split, f"{split}annot") for split in SPLIT_ALIASES}
    splits = {split: (folders[a], folders[b]) for split, (a, b) in names.items() if a in folders and b in folders}
    return Layout(splits, known="camvid") if splits else None


def _camvid(root: Path) -> Layout | None:
    """Find CamVid as its own authors publish it: without splits, with masks in the colors of 32 classes."""
    folders = _subfolders(root)
    images, masks = folders.get("701_stillsraw_full"), folders.get("labeledapproved_full")
    if images is None or masks is None:
        return None
    return Layout({UNSPLIT: (images, masks)}, known="camvid", palette=True, mask_endings=("_L",))


def _cityscapes(root: Path) -> Layout | None:
    """Find Cityscapes: ``leftImg8bit`` and ``gtFine``. The test split is left out, because its masks are empty."""
    images, masks = root / "leftImg8bit", root / "gtFine"
    if not images.is_dir() or not masks.is_dir():
        return None
    splits = {split: (images / split, masks / split) for split in ("train", "val") if (masks / split).is_dir()}
    if not splits:
        return None
    # Users may create the labelTrainIds masks with Cityscapes' scripts; the published files do not include them.
    train_ids = any(next(folder.rglob("*_gtFine_labelTrainIds.png"), None) for _, folder in splits.values())
    ending = "_gtFine_labelTrainIds" if train_ids else "_gtFine_labelIds"
    return Layout(splits, known="cityscapes", renumbered=train_ids, image_ending="_leftImg8bit", mask_endings=(ending,))
