"""How folders of images and masks are laid out: people's own, CamVid's, ADE20K's and Cityscapes'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from volo.data.find import images_below
from volo.data.images import MAX_PIXELS, ImageError
from volo.data.segmentation.classes import MaskClasses, known_classes, read_classes
from volo.data.segmentation.formats.masks import mask_values
from volo.data.segmentation.pairs import MaskedImages, PairSplits, check_sizes, matched
from volo.data.splits import SPLIT_ALIASES, UNSPLIT
from volo.messages import join_few

#: What people call the two folders; capitals do not matter.
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation")

#: What may follow an image's name in that of its mask.
MASK_ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_L", "_P")

#: The file of classes that is looked for beside the two folders.
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie.

    Attributes:
        folders: part → folder of its images and folder of its masks.
        known: the classes of a public data set, for which no file is needed; see ``known_classes``.
        renumbered: its masks hold the indices of those classes, not its own values.
        palette: its masks are color pictures.
        image_ending: of every image's name, before the dot.
        mask_endings: of every mask's, one of them.
    """

    folders: Mapping[str, tuple[Path, Path]]
    known: str | None = None
    renumbered: bool = False
    palette: bool = False
    image_ending: str = ""
    mask_endings: Sequence[str] = field(default=MASK_ENDINGS)

    def classes(self) -> MaskClasses | None:
        """Those that are known by the layout alone."""
        if self.known is None:
            return None
        classes = known_classes(self.known)
        return classes.renumbered() if self.renumbered else classes


def find_layout(root: Path) -> Layout | None:
    """How ``root`` is laid out; None where it holds no images with masks in a way that is known."""
    if not root.is_dir():
        return None
    return _cityscapes(root) or _camvid(root) or _segnet(root) or _pairs(root)


def open_layout(
    root: Path, *, classes: str | None = None, palette: bool = False, max_pixels: int = MAX_PIXELS
) -> PairSplits:
    """The parts of a folder of images and masks, each listed and checked when it is opened.

    Args:
        root: the folder.
        classes: the file of classes; None takes ``classes.txt`` in ``root``, or the classes of the public data set
            whose layout it is.
        palette: masks are converted by their colors.
        max_pixels: images and masks of more are not decoded.

    Raises:
        ValueError: it is laid out in no way that is known, or nothing says what the classes are. Opening a part: a
            missing partner, sizes that differ, no pair.
    """
    layout = find_layout(root)
    if layout is None:
        raise ValueError(
            f"{root} has no images with masks; expected {root}/images and {root}/masks with files of the same names, "
            "also within or around train and val folders, or the folders of CamVid, ADE20K or Cityscapes"
        )
    palette = palette or layout.palette
    meaning = _classes(root, layout, classes, palette)

    def open_part(part: str) -> MaskedImages:
        images, masks = layout.folders[part]
        pairs = matched(images, masks, layout.image_ending, layout.mask_endings)
        found = MaskedImages([i for i, _ in pairs], [m for _, m in pairs], meaning, palette, max_pixels=max_pixels)
        check_sizes(found)
        return found

    return {part: partial(open_part, part) for part in layout.folders}


def _classes(root: Path, layout: Layout, classes: str | None, palette: bool) -> MaskClasses:
    path = Path(classes) if classes else root / CLASSES_FILE
    if classes and not path.is_file():
        raise ValueError(
            f"there is no file of classes {classes}; it has a line for every class: its name, maybe #rrggbb"
        )
    meaning = read_classes(path) if path.is_file() else layout.classes()
    if meaning is None:
        raise ValueError(
            f"nothing says what the classes of {root} are: write {path}, a line for each value of its masks from 0 on, "
            f"with a name and, if you like, #rrggbb; or name it by --class-file (in training --data.class-file)"
            f"{_seen(layout)}"
        )
    if palette:
        _ = meaning.codes  # raises where a class has no color
    return meaning


def _seen(layout: Layout) -> str:
    """The values of the first masks, for who has to name them."""
    _, folder = next(iter(layout.folders.values()))
    seen: set[int] = set()
    for path, _ in zip(images_below(folder), range(20), strict=False):
        try:
            seen.update(set(mask_values(path).reshape(-1).tolist()))
        except ImageError:
            return ""
    return f"; the first masks hold {join_few(sorted(seen))}" if seen else ""


def _subfolders(root: Path) -> dict[str, Path]:
    """The folders in ``root`` by their names in small letters."""
    found = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {folder.name.lower(): folder for folder in found}


def _parts_in(root: Path) -> dict[str, Path]:
    """The folders in ``root`` that bear the name of a part."""
    folders = _subfolders(root)
    named = {part: [folders[word] for word in words if word in folders] for part, words in SPLIT_ALIASES.items()}
    return {part: found[0] for part, found in named.items() if found}


def _two_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks in ``root``."""
    folders = _subfolders(root)
    images = next((folders[word] for word in IMAGE_FOLDERS if word in folders), None)
    masks = next((folders[word] for word in MASK_FOLDERS if word in folders), None)
    return None if images is None or masks is None else (images, masks)


def _pairs(root: Path) -> Layout | None:
    """``images`` and ``masks``, parts in them or around them; ADE20K's layout is of this form."""
    both = _two_folders(root)
    if both is None:
        around = {part: _two_folders(folder) for part, folder in _parts_in(root).items()}
        folders = {part: found for part, found in around.items() if found is not None}
        return Layout(folders) if folders else None
    images, masks = _parts_in(both[0]), _parts_in(both[1])
    if not images.keys() & masks.keys():
        return Layout({UNSPLIT: both})
    parts = {part: (images[part], masks[part]) for part in images if part in masks}
    ade20k = root.name == "ADEChallengeData2016" or (root / "objectInfo150.txt").is_file()
    return Layout(parts, known="ade20k" if ade20k else None)


def _segnet(root: Path) -> Layout | None:
    """CamVid as SegNet's authors publish it: ``train`` and ``trainannot``, likewise ``val`` and ``test``."""
    folders = _subfolders(root)
    both = {part: (part, f"{part}annot") for part in SPLIT_ALIASES}
    pairs = {part: (folders[a], folders[b]) for part, (a, b) in both.items() if a in folders and b in folders}
    return Layout(pairs, known="camvid") if pairs else None


def _camvid(root: Path) -> Layout | None:
    """CamVid as its own authors publish it, in no parts: frames, and masks in the colors of 32 classes."""
    folders = _subfolders(root)
    images, masks = folders.get("701_stillsraw_full"), folders.get("labeledapproved_full")
    if images is None or masks is None:
        return None
    return Layout({UNSPLIT: (images, masks)}, known="camvid", palette=True, mask_endings=("_L",))


def _cityscapes(root: Path) -> Layout | None:
    """Cityscapes' ``leftImg8bit`` and ``gtFine``; the masks of its test part are empty, so that it is left out."""
    images, masks = root / "leftImg8bit", root / "gtFine"
    if not images.is_dir() or not masks.is_dir():
        return None
    parts = {part: (images / part, masks / part) for part in ("train", "val") if (masks / part).is_dir()}
    if not parts:
        return None
    made = any(next(folder.rglob("*_gtFine_labelTrainIds.png"), None) for _, folder in parts.values())
    ending = "_gtFine_labelTrainIds" if made else "_gtFine_labelIds"
    return Layout(parts, known="cityscapes", renumbered=made, image_ending="_leftImg8bit", mask_endings=(ending,))
