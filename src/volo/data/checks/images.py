"""A check of labeled images: read each once and report the content and the faults. Needs the extra ``volo[data]``."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from volo.data.checks.contact_sheet import Tile, contact_sheet, thumbnail_of
from volo.data.checks.duplicates import near_hashes, perceptual_hash, pixel_digest, same_digests
from volo.data.checks.inspection import Inspection, inspect_all
from volo.data.class_names import doubtful_names
from volo.data.classification.class_balance import STRONG_IMBALANCE, imbalance
from volo.data.images import FileImages, ImageError, ImageSet, open_image
from volo.data.read_notes import ReadNote, notes_of, summarize_notes
from volo.data.splits import UNSPLIT
from volo.messages import join_few

#: Images of a class that are chosen for its contact sheet; unreadable images are shown besides.
MOST_EXAMPLES = 40


@dataclass(frozen=True)
class Inspected:
    """The result of inspecting one image.

    Attributes:
        name: path of the image, or its position in an array.
        split: split that holds the image.
        label: name of its class.
        problem: error message if the image cannot be read, else None; if set, all following attributes are None.
        size: (width, height), pixels, after the EXIF orientation is applied.
        kind: file format and mode, such as ``JPEG RGB``; ``array`` for an image that is not in a file.
        digest: digest of its pixels (:func:`pixel_digest`).
        hash: its perceptual hash (:func:`perceptual_hash`); None for a flat image.
        thumbnail: its thumbnail, if it is among those chosen for a contact sheet, else None.
        notes: remarks about the image, which was read although something is wrong with it.
    """

    name: str
    split: str
    label: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    kind: str | None = None
    digest: bytes | None = None
    hash: int | None = None
    thumbnail: Image.Image | None = None
    notes: tuple[ReadNote, ...] = ()


@dataclass(frozen=True)
class Duplicates:
    """A group of images that are equal, or nearly equal.

    Attributes:
        images: (name, split, class) of every image.
        across: the images lie in more than one split.
        conflict: the images have more than one label.
    """

    images: tuple[tuple[str, str, str], ...]
    across: bool
    conflict: bool


class _ImageInspection(Inspection[Inspected]):
    """Labeled images of all splits; those at ``shown``, (split, index), get thumbnails."""

    def __init__(self, splits: Mapping[str, ImageSet], shown: set[tuple[str, int]]) -> None:
        super().__init__({split: len(images.labels) for split, images in splits.items()})
        self.splits, self.shown = splits, shown

    def inspect(self, split: str, index: int) -> Inspected:
        images = self.splits[split]
        known = Inspected(images.name(index), split, images.class_names[images.labels[index]])
        try:
            image, kind = images.read(index), _kind(images, index)
        except (ImageError, OSError) as error:
            return replace(known, problem=str(error))
        return replace(
            known,
            size=image.size,
            kind=kind,
            digest=pixel_digest(image),
            hash=perceptual_hash(image),
            thumbnail=thumbnail_of(image) if (split, index) in self.shown else None,
            notes=notes_of(image),
        )


def _kind(images: ImageSet, index: int) -> str:
    if not isinstance(images, FileImages):
        return "array"
    with open_image(images.paths[index], "image", images.max_pixels) as file:  # reads the header only
        return f"{file.format} {file.mode}"


def _choose_examples(splits: Mapping[str, ImageSet]) -> set[tuple[str, int]]:
    """Choose the images of the contact sheets, at even steps through all images of a class.

    Returns:
        (split, index) of the chosen images.
    """
    members: dict[str, list[tuple[str, int]]] = {}
    for split, images in splits.items():
        for index, label in enumerate(images.labels):
            members.setdefault(images.class_names[label], []).append((split, index))
    chosen: set[tuple[str, int]] = set()
    for places in members.values():
        steps = np.linspace(0, len(places) - 1, min(MOST_EXAMPLES, len(places))).round().astype(int)
        chosen.update(places[step] for step in steps)
    return chosen


def check_images(
    splits: Mapping[str, ImageSet],
    *,
    workers: int = 0,
    distance: int = 4,
    on_image: Callable[[int], None] | None = None,
) -> "ImageReport":
    """Read every image once and report the content and the faults.

    Args:
        splits: split → its images.
        workers: number of processes that read; 0 reads in this one.
        distance: number of bits, of 64, in which the perceptual hashes of near duplicates may differ.
        on_image: called after each batch with the number of images in the batch.

    Raises:
        ValueError: There are no images, or the distance is not allowed.
    """
    inspection = _ImageInspection(splits, _choose_examples(splits))
    if not len(inspection):
        raise ValueError("there are no images to check")
    near_hashes([], distance)  # reports a wrong distance now, since reading may take long
    return ImageReport(tuple(inspect_all(inspection, workers, on_image)), distance)


@dataclass(frozen=True)
class ImageReport:
    """Content and faults of a set of labeled images.

    Attributes:
        images: the results of all images, split by split, in their order.
        distance: number of bits in which the hashes of near duplicates may differ.
    """

    images: tuple[Inspected, ...]
    distance: int

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Class → split → number of images, unreadable ones included; classes sorted, splits in their order."""
        splits = list(dict.fromkeys(image.split for image in self.images))
        counted = Counter((image.label, image.split) for image in self.images)
        return {label: {split: counted[label, split] for split in splits} for label in sorted({x for x, _ in counted})}

    @cached_property
    def unreadable(self) -> list[Inspected]:
        """Images with a problem."""
        return [image for image in self.images if image.problem is not None]

    @cached_property
    def readable(self) -> list[Inspected]:
        """Images without a problem."""
        return [image for image in self.images if image.problem is None]

    @cached_property
    def exact(self) -> list[Duplicates]:
        """Groups of images with equal pixels."""
        return self._groups(same_digests([image.digest for image in self.readable if image.digest is not None]))

    @cached_property
    def near(self) -> list[Duplicates]:
        """Groups of images that look nearly the same; groups in which all pixels are equal are left out."""
        groups = near_hashes([image.hash for image in self.readable], self.distance)
        return self._groups([group for group in groups if len({self.readable[place].digest for place in group}) > 1])

    def _groups(self, groups: Sequence[Sequence[int]]) -> list[Duplicates]:
        duplicates = []
        for group in groups:
            members = [self.readable[place] for place in group]
            images = tuple((image.name, image.split, image.label) for image in members)
            across, conflict = len({split for _, split, _ in images}) > 1, len({label for *_, label in images}) > 1
            duplicates.append(Duplicates(images, across, conflict))
        return duplicates

    @cached_property
    def imbalance(self) -> float:
        """Largest by smallest number of images of a class, in the split that is trained on."""
        split = next(
            name for name in ("train", UNSPLIT, self.images[0].split) if name in next(iter(self.counts.values()))
        )
        return imbalance(np.array([row[split] for row in self.counts.values()]))

    def findings(self) -> list[str]:
        """Describe every fault in one line."""
        lines = [image.problem for image in self.unreadable if image.problem is not None]
        lines += summarize_notes((image.name, note) for image in self.readable for note in image.notes)
        if len(self.counts) == 1:
            lines.append(
                f"one class only, {next(iter(self.counts))!r}: a classifier needs two; if the folders in it are the "
                "classes, give that folder"
            )
        for split in next(iter(self.counts.values())):
            missing = [label for label, row in self.counts.items() if not row[split]]
            if missing:
                lines.append(f"the {split} split has no images of {join_few(missing)}")
        lines += doubtful_names(list(self.counts), len(self.images))
        if self.imbalance >= STRONG_IMBALANCE:
            lines.append(
                f"strong imbalance: the largest class has {self.imbalance:,.0f} times as many images as the smallest"
            )
        for kind, groups in (("exact", self.exact), ("near", self.near)):
            worst_first = sorted(groups, key=lambda group: (not group.conflict, not group.across))
            lines += [f"{kind} duplicates{_remarks(group)}: {_members(group)}" for group in worst_first]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as JSON values."""
        return {
            "images": len(self.images),
            "counts": self.counts,
            "imbalance": self.imbalance if np.isfinite(self.imbalance) else None,
            "sizes": self.sizes(),
            "kinds": dict(Counter(image.kind for image in self.readable).most_common()),
            "unreadable": [
                {"image": image.name, "part": image.split, "class": image.label, "problem": image.problem}
                for image in self.unreadable
            ],
            "exact_duplicates": [_as_json(group) for group in self.exact],
            "near_duplicates": [_as_json(group) for group in self.near],
            "near_distance": self.distance,
            "findings": self.findings(),
        }

    def sizes(self) -> dict[str, list[float]]:
        """Return the least, median and largest width, height and number of pixels; empty if no image can be read."""
        sides = np.array([image.size for image in self.readable], dtype=np.int64).reshape(-1, 2)
        values = {"width": sides[:, 0], "height": sides[:, 1], "pixels": sides.prod(axis=1)}
        return {
            name: [float(value.min()), float(np.median(value)), float(value.max())]
            for name, value in values.items()
            if len(value)
        }

    def contact_sheets(self) -> dict[str, Image.Image]:
        """Draw a contact sheet of every class, with images of all splits, their names and their splits."""
        tiles: dict[str, list[Tile]] = {label: [] for label in self.counts}
        for image in self.images:
            if image.thumbnail is not None or image.problem is not None:
                split = () if image.split == UNSPLIT else (image.split,)
                tiles[image.label].append(Tile(image.thumbnail, (Path(image.name).name, *split)))
        sheets = {}
        for label, row in self.counts.items():
            counts = ", ".join(
                f"{count:,}" if split == UNSPLIT else f"{count:,} {split}" for split, count in row.items()
            )
            sheets[label] = contact_sheet(f"{label}: {counts}", tiles[label][: 2 * MOST_EXAMPLES])
        return sheets


def _remarks(group: Duplicates) -> str:
    remarks = [text for text, holds in (("across splits", group.across), ("labels differ", group.conflict)) if holds]
    return f" ({', '.join(remarks)})" if remarks else ""


def _members(group: Duplicates) -> str:
    return join_few(
        f"{name} ({label if split == UNSPLIT else f'{split}, {label}'})" for name, split, label in group.images
    )


def _as_json(group: Duplicates) -> dict[str, Any]:
    return {
        **asdict(group),
        "images": [{"image": name, "part": split, "class": label} for name, split, label in group.images],
    }
