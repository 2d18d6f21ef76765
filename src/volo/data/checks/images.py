"""Reading a whole data set once, to say what is in it and what is wrong. Needs the extra ``volo[data]``."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from volo.data.checks.contact_sheet import Tile, contact_sheet, thumbnail_of
from volo.data.checks.duplicates import near_hashes, perceptual_hash, pixel_digest, same_digests
from volo.data.classification.class_balance import STRONG_IMBALANCE, imbalance
from volo.data.images import FileImages, ImageError, ImageSet
from volo.data.loader import leave_signals
from volo.data.splits import UNSPLIT
from volo.messages import join_few

#: Images of a class on its contact sheet.
MOST_EXAMPLES = 40


@dataclass(frozen=True)
class Inspected:
    """What was found out about one image.

    Attributes:
        name: its path, or its place in an array.
        part: of the data set.
        label: the name of its class.
        problem: why it cannot be read, or None; what follows is None with it.
        size: (width, height), pixels, upright.
        kind: the kind of file and its mode, ``JPEG RGB``; ``array`` for one that is in no file.
        digest: of its pixels.
        hash: a perceptual hash; None for a flat picture, too.
        thumbnail: None where none was asked for, too.
    """

    name: str
    part: str
    label: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    kind: str | None = None
    digest: bytes | None = None
    hash: int | None = None
    thumbnail: Image.Image | None = None


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same, or nearly.

    Attributes:
        images: their names, with part and class.
        across: they lie in more than one part.
        conflict: they have more than one label.
    """

    images: tuple[tuple[str, str, str], ...]
    across: bool
    conflict: bool


class _Inspection(Dataset[Inspected]):
    """Images of all parts, one after the other."""

    def __init__(self, parts: Mapping[str, ImageSet], shown: set[tuple[str, int]]) -> None:
        self.parts, self.shown = parts, shown
        self.places = [(part, index) for part, images in parts.items() for index in range(len(images.labels))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Inspected:
        part, index = self.places[number]
        images = self.parts[part]
        known = Inspected(images.name(index), part, images.class_names[images.labels[index]])
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
            thumbnail=thumbnail_of(image) if (part, index) in self.shown else None,
        )


def _kind(images: ImageSet, index: int) -> str:
    if not isinstance(images, FileImages):
        return "array"
    with Image.open(images.paths[index]) as file:  # the header alone
        return f"{file.format} {file.mode}"


def _chosen(parts: Mapping[str, ImageSet]) -> set[tuple[str, int]]:
    """(part, index) of the images to show, evenly out of all of a class."""
    members: dict[str, list[tuple[str, int]]] = {}
    for part, images in parts.items():
        for index, label in enumerate(images.labels):
            members.setdefault(images.class_names[label], []).append((part, index))
    chosen: set[tuple[str, int]] = set()
    for places in members.values():
        steps = np.linspace(0, len(places) - 1, min(MOST_EXAMPLES, len(places))).round().astype(int)
        chosen.update(places[step] for step in steps)
    return chosen


def check_images(
    parts: Mapping[str, ImageSet],
    *,
    workers: int = 0,
    distance: int = 4,
    on_image: Callable[[int], None] | None = None,
) -> "ImageReport":
    """Read every image once.

    Args:
        parts: what to read, by the names of the parts.
        workers: processes that read; 0 reads here.
        distance: bits of 64 in which the perceptual hashes of near duplicates may differ.
        on_image: called now and then with the number of images read since.

    Raises:
        ValueError: there are no images, or the distance is not allowed.
    """
    inspection = _Inspection(parts, _chosen(parts))
    if not len(inspection):
        raise ValueError("there are no images to check")
    near_hashes([], distance)  # that a distance is not allowed shows before the reading, not after
    images: list[Inspected] = []
    for batch in DataLoader(
        inspection, batch_size=32, num_workers=workers, worker_init_fn=leave_signals, collate_fn=list
    ):
        images += batch
        if on_image is not None:
            on_image(len(batch))
    return ImageReport(tuple(images), distance)


@dataclass(frozen=True)
class ImageReport:
    """All that was found.

    Attributes:
        images: in the order of parts and places.
        distance: of near duplicates, bits.
    """

    images: tuple[Inspected, ...]
    distance: int

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Class → part → number of images, unreadable ones too; classes and parts in their order."""
        parts = list(dict.fromkeys(image.part for image in self.images))
        counted = Counter((image.label, image.part) for image in self.images)
        return {label: {part: counted[label, part] for part in parts} for label in sorted({x for x, _ in counted})}

    @cached_property
    def unreadable(self) -> list[Inspected]:
        """Images with a problem."""
        return [image for image in self.images if image.problem is not None]

    @cached_property
    def readable(self) -> list[Inspected]:
        """Images without."""
        return [image for image in self.images if image.problem is None]

    @cached_property
    def exact(self) -> list[Duplicates]:
        """Groups of images with equal pixels."""
        return self._groups(same_digests([image.digest for image in self.readable if image.digest is not None]))

    @cached_property
    def near(self) -> list[Duplicates]:
        """Groups of images that look nearly the same and are not all equal."""
        groups = near_hashes([image.hash for image in self.readable], self.distance)
        return self._groups([group for group in groups if len({self.readable[place].digest for place in group}) > 1])

    def _groups(self, groups: Sequence[Sequence[int]]) -> list[Duplicates]:
        found = []
        for group in groups:
            members = [self.readable[place] for place in group]
            names = tuple((image.name, image.part, image.label) for image in members)
            found.append(Duplicates(names, len({part for _, part, _ in names}) > 1, len({x for *_, x in names}) > 1))
        return found

    @cached_property
    def imbalance(self) -> float:
        """Largest by smallest class of the part that is trained on."""
        part = next(
            name for name in ("train", UNSPLIT, self.images[0].part) if name in next(iter(self.counts.values()))
        )
        return imbalance(np.array([row[part] for row in self.counts.values()]))

    def findings(self) -> list[str]:
        """What is wrong, one line each."""
        lines = [image.problem for image in self.unreadable if image.problem is not None]
        if len(self.counts) == 1:
            lines.append(f"one class only, {next(iter(self.counts))!r}: a classifier needs two")
        for part in next(iter(self.counts.values())):
            missing = [label for label, row in self.counts.items() if not row[part]]
            if missing:
                lines.append(f"the {part} part has no images of {join_few(missing)}")
        if self.imbalance >= STRONG_IMBALANCE:
            lines.append(f"strong imbalance: the largest class has {self.imbalance:,.0f} times the smallest's images")
        for what, groups in (("exact", self.exact), ("near", self.near)):
            worst_first = sorted(groups, key=lambda group: (not group.conflict, not group.across))
            lines += [f"{what} duplicates{_remarks(group)}: {_members(group)}" for group in worst_first]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "images": len(self.images),
            "counts": self.counts,
            "imbalance": self.imbalance if np.isfinite(self.imbalance) else None,
            "sizes": self.sizes(),
            "kinds": dict(Counter(image.kind for image in self.readable).most_common()),
            "unreadable": [
                {"image": image.name, "part": image.part, "class": image.label, "problem": image.problem}
                for image in self.unreadable
            ],
            "exact_duplicates": [_as_json(group) for group in self.exact],
            "near_duplicates": [_as_json(group) for group in self.near],
            "near_distance": self.distance,
            "findings": self.findings(),
        }

    def sizes(self) -> dict[str, list[float]]:
        """Smallest, median and largest width, height and number of pixels; nothing where nothing can be read."""
        sides = np.array([image.size for image in self.readable], dtype=np.int64).reshape(-1, 2)
        values = {"width": sides[:, 0], "height": sides[:, 1], "pixels": sides.prod(axis=1)}
        return {
            name: [float(value.min()), float(np.median(value)), float(value.max())]
            for name, value in values.items()
            if len(value)
        }

    def contact_sheets(self) -> dict[str, Image.Image]:
        """A picture of every class: images out of all its parts, with their names."""
        tiles: dict[str, list[Tile]] = {label: [] for label in self.counts}
        for image in self.images:
            if image.thumbnail is not None or image.problem is not None:
                part = () if image.part == UNSPLIT else (image.part,)
                tiles[image.label].append(Tile(image.thumbnail, (Path(image.name).name, *part)))
        sheets = {}
        for label, row in self.counts.items():
            counts = ", ".join(f"{count:,}" if part == UNSPLIT else f"{count:,} {part}" for part, count in row.items())
            sheets[label] = contact_sheet(f"{label}: {counts}", tiles[label][: 2 * MOST_EXAMPLES])
        return sheets


def _remarks(group: Duplicates) -> str:
    remarks = [text for text, holds in (("across parts", group.across), ("labels differ", group.conflict)) if holds]
    return f" ({', '.join(remarks)})" if remarks else ""


def _members(group: Duplicates) -> str:
    return join_few(
        f"{name} ({label if part == UNSPLIT else f'{part}, {label}'})" for name, part, label in group.images
    )


def _as_json(group: Duplicates) -> dict[str, Any]:
    return {
        **asdict(group),
        "images": [{"image": name, "part": part, "class": label} for name, part, label in group.images],
    }
