"""A check of images with masks: read each once, report the content and the faults. Needs the extra ``volo[data]``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from volo.data.checks.contact_sheet import COLUMNS, THUMBNAIL, Tile, contact_sheet, thumbnail_of
from volo.data.checks.duplicates import pixel_digest, same_digests
from volo.data.checks.inspection import Inspection, inspect_all
from volo.data.images import ImageError
from volo.data.read_notes import ReadNote, notes_of, summarize_notes
from volo.data.segmentation.classes import MaskClasses
from volo.data.segmentation.overlay import overlay
from volo.data.segmentation.pairs import MaskedImages, count_classes, too_few_classes
from volo.data.splits import UNSPLIT
from volo.messages import join_few

#: Most pairs of a split on its contact sheet.
MOST_TILES = 20


@dataclass(frozen=True)
class InspectedPair:
    """The result of inspecting one image and its mask.

    Attributes:
        name: path of the image.
        split: split that holds the pair.
        problem: error message if the pair cannot be used, else None; if set, all following attributes are None.
        size: (width, height), pixels.
        counts: (classes,) int64, number of pixels of each class; ignored pixels are not counted.
        digest: digest of the image's pixels (:func:`pixel_digest`).
        thumbnails: thumbnails of the image and of the image under its mask, if the pair is among those chosen for a
            contact sheet, else None.
        notes: remarks about the image, which was read although something is wrong with it.
    """

    name: str
    split: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    counts: np.ndarray | None = None
    digest: bytes | None = None
    thumbnails: tuple[Image.Image, Image.Image] | None = None
    notes: tuple[ReadNote, ...] = ()


class _PairInspection(Inspection[InspectedPair]):
    """Pairs of all splits; some of each split, at even steps through all of its pairs, get thumbnails."""

    batch_size = 16

    def __init__(self, splits: Mapping[str, MaskedImages]) -> None:
        super().__init__({split: len(images) for split, images in splits.items()})
        self.splits = splits
        self.shown = {
            (split, int(index))
            for split, images in splits.items()
            for index in np.linspace(0, len(images) - 1, min(MOST_TILES, len(images))).round()
        }

    def inspect(self, split: str, index: int) -> InspectedPair:
        images = self.splits[split]
        known = InspectedPair(images.name(index), split)
        try:
            image, mask = images.read_pair(index)
        except (ImageError, OSError) as error:
            return replace(known, problem=str(error))
        thumbnails = None
        if (split, index) in self.shown:
            masked = overlay(image, mask, images.classes.colors, opacity=0.6)
            thumbnails = thumbnail_of(image), thumbnail_of(masked)
        counts = count_classes(mask, len(images.class_names))
        return replace(
            known,
            size=image.size,
            counts=counts,
            digest=pixel_digest(image),
            thumbnails=thumbnails,
            notes=notes_of(image),
        )


def check_pairs(
    splits: Mapping[str, MaskedImages], *, workers: int = 0, on_image: Callable[[int], None] | None = None
) -> "PairReport":
    """Read every image and every mask once and report the content and the faults.

    Args:
        splits: split → its pairs; all splits have the same classes.
        workers: number of processes that read; 0 reads in this one.
        on_image: called after each batch with the number of pairs in the batch.
    """
    pairs = inspect_all(_PairInspection(splits), workers, on_image)
    return PairReport(tuple(pairs), next(iter(splits.values())).classes)


@dataclass(frozen=True)
class PairReport:
    """Content and faults of a set of images with masks.

    Attributes:
        pairs: the results of all pairs, split by split, in their order.
        classes: the classes of the masks.
    """

    pairs: tuple[InspectedPair, ...]
    classes: MaskClasses

    @cached_property
    def splits(self) -> list[str]:
        """Names of the splits, in their order."""
        return list(dict.fromkeys(pair.split for pair in self.pairs))

    @cached_property
    def readable(self) -> list[InspectedPair]:
        """Pairs without a problem."""
        return [pair for pair in self.pairs if pair.problem is None]

    @cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """Split → (classes,) int64, number of pixels of each class."""
        zeros = np.zeros(len(self.classes.names), np.int64)
        return {split: sum(self._counts(split), zeros) for split in self.splits}

    @cached_property
    def images_with(self) -> dict[str, np.ndarray]:
        """Split → (classes,) int64, number of images that show each class."""
        zeros = np.zeros(len(self.classes.names), np.int64)
        return {split: sum((counts > 0 for counts in self._counts(split)), zeros) for split in self.splits}

    def ignored(self, split: str) -> float:
        """Return the share of a split's pixels that are ignored, 0–1; 0 if no pair of the split can be read."""
        total = sum(pair.size[0] * pair.size[1] for pair in self.readable if pair.split == split and pair.size)
        return 1.0 - float(self.pixels[split].sum()) / total if total else 0.0

    def _counts(self, split: str) -> list[np.ndarray]:
        return [pair.counts for pair in self.readable if pair.split == split and pair.counts is not None]

    def findings(self) -> list[str]:
        """Describe every fault in one line."""
        lines = [pair.problem for pair in self.pairs if pair.problem is not None]
        lines += summarize_notes((pair.name, note) for pair in self.readable for note in pair.notes)
        void = [pair.name for pair in self.readable if pair.counts is not None and not pair.counts.any()]
        if void:
            lines.append(f"masks with every pixel ignored: {len(void):,}, of {join_few(void)}")
        for split, pixels in self.pixels.items():
            missing = [name for name, count in zip(self.classes.names, pixels, strict=True) if not count]
            if not self._counts(split):
                continue  # the problems of its pairs are in the list already
            if problem := too_few_classes(pixels, self.classes):
                lines.append(f"{_describe(split)}: {problem}")
            elif missing:
                lines.append(f"{_describe(split)}: no pixels of {join_few(missing)}")
        return lines + self._duplicates()

    def _duplicates(self) -> list[str]:
        lines = []
        for group in same_digests([pair.digest for pair in self.readable if pair.digest is not None]):
            members = [self.readable[place] for place in group]
            across = " (across splits)" if len({pair.split for pair in members}) > 1 else ""
            lines.append(f"exact duplicates{across}: {join_few(pair.name for pair in members)}")
        return sorted(lines, key=lambda line: "across" not in line)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as JSON values."""
        sides = np.array([pair.size for pair in self.readable], dtype=np.int64).reshape(-1, 2)
        return {
            "pairs": {split: sum(pair.split == split for pair in self.pairs) for split in self.splits},
            "pixels": {
                split: dict(zip(self.classes.names, self.pixels[split].tolist(), strict=True)) for split in self.splits
            },
            "images_with": {
                split: dict(zip(self.classes.names, self.images_with[split].tolist(), strict=True))
                for split in self.splits
            },
            "ignored": {split: self.ignored(split) for split in self.splits},
            "sizes": {
                name: [float(side.min()), float(np.median(side)), float(side.max())]
                for name, side in (("width", sides[:, 0]), ("height", sides[:, 1]))
                if len(side)
            },
            "unusable": [
                {"image": pair.name, "part": pair.split, "problem": pair.problem} for pair in self.pairs if pair.problem
            ],
            "findings": self.findings(),
        }

    def contact_sheets(self) -> dict[str, Image.Image]:
        """Draw a contact sheet of every split: the colors of the classes, then images without and with their masks."""
        sheets = {}
        for split in self.splits:
            tiles = self._legend(split)
            for pair in self.pairs:
                if pair.split == split and pair.thumbnails is not None:
                    name = Path(pair.name).name
                    tiles += [Tile(pair.thumbnails[0], (name,)), Tile(pair.thumbnails[1], ())]
            count = sum(pair.split == split for pair in self.pairs)
            sheets[split] = contact_sheet(f"{_describe(split)}: {count:,} images with masks", tiles)
        return sheets

    def _legend(self, split: str) -> list[Tile]:
        """Return a tile in its color for every class that the split shows, then empty tiles up to a full row."""
        total = max(1, int(self.pixels[split].sum()))
        tiles = [
            Tile(Image.new("RGB", (THUMBNAIL, THUMBNAIL // 3), color), (name, f"{count / total:.2%} of pixels"))
            for name, color, count in zip(self.classes.names, self.classes.colors, self.pixels[split], strict=True)
            if count
        ]
        return tiles + [Tile(Image.new("RGB", (1, 1), "white"), ())] * (-len(tiles) % COLUMNS)


def _describe(split: str) -> str:
    return "all" if split == UNSPLIT else f"the {split} split"
