"""Reading images with their masks once, to say what is in them and what is wrong. Needs the extra ``volo[data]``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from volo.data.checks.contact_sheet import COLUMNS, THUMBNAIL, Tile, contact_sheet, thumbnail_of
from volo.data.checks.duplicates import pixel_digest, same_digests
from volo.data.images import ImageError
from volo.data.loader import leave_signals
from volo.data.segmentation.classes import MaskClasses
from volo.data.segmentation.overlay import overlay
from volo.data.segmentation.pairs import MaskedImages, count_classes, lacking
from volo.data.splits import UNSPLIT
from volo.messages import join_few

#: Pairs of a part on its contact sheet.
MOST_TILES = 20


@dataclass(frozen=True)
class InspectedPair:
    """What was found out about one image and its mask.

    Attributes:
        name: the path of the image.
        part: of the data set.
        problem: why it cannot be used, or None; what follows is None with it.
        size: (width, height), pixels.
        counts: (classes,) int64, pixels of each class; the others are ignored.
        digest: of the image's pixels.
        thumbnails: of the image and of the mask laid over it; None where none were asked for, too.
    """

    name: str
    part: str
    problem: str | None = None
    size: tuple[int, int] | None = None
    counts: np.ndarray | None = None
    digest: bytes | None = None
    thumbnails: tuple[Image.Image, Image.Image] | None = None


class _Inspection(Dataset[InspectedPair]):
    """Pairs of all parts, one after the other; some of each, evenly out of all, have thumbnails."""

    def __init__(self, parts: Mapping[str, MaskedImages]) -> None:
        self.parts = parts
        self.places = [(part, index) for part, images in parts.items() for index in range(len(images))]
        self.shown = {
            (part, int(index))
            for part, images in parts.items()
            for index in np.linspace(0, len(images) - 1, min(MOST_TILES, len(images))).round()
        }

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> InspectedPair:
        part, index = self.places[number]
        images = self.parts[part]
        known = InspectedPair(images.name(index), part)
        try:
            image, mask = images.read_pair(index)
        except (ImageError, OSError) as error:
            return replace(known, problem=str(error))
        thumbnails = None
        if (part, index) in self.shown:
            laid_over = overlay(image, mask, images.classes.colors, opacity=0.6)
            thumbnails = thumbnail_of(image), thumbnail_of(laid_over)
        counts = count_classes(mask, len(images.class_names))
        return replace(known, size=image.size, counts=counts, digest=pixel_digest(image), thumbnails=thumbnails)


def check_pairs(
    parts: Mapping[str, MaskedImages], *, workers: int = 0, on_image: Callable[[int], None] | None = None
) -> "PairReport":
    """Read every image and every mask once.

    Args:
        parts: what to read, by the names of the parts; all have the same classes.
        workers: processes that read; 0 reads here.
        on_image: called now and then with the number of pairs read since.
    """
    pairs: list[InspectedPair] = []
    for batch in DataLoader(
        _Inspection(parts), batch_size=16, num_workers=workers, worker_init_fn=leave_signals, collate_fn=list
    ):
        pairs += batch
        if on_image is not None:
            on_image(len(batch))
    return PairReport(tuple(pairs), next(iter(parts.values())).classes)


@dataclass(frozen=True)
class PairReport:
    """All that was found.

    Attributes:
        pairs: in the order of parts and places.
        classes: of the masks.
    """

    pairs: tuple[InspectedPair, ...]
    classes: MaskClasses

    @cached_property
    def parts(self) -> list[str]:
        """In their order."""
        return list(dict.fromkeys(pair.part for pair in self.pairs))

    @cached_property
    def readable(self) -> list[InspectedPair]:
        """Pairs without a problem."""
        return [pair for pair in self.pairs if pair.problem is None]

    @cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """Part → (classes,) int64, pixels of each class."""
        return {part: sum(self._counts(part), np.zeros(len(self.classes.names), np.int64)) for part in self.parts}

    @cached_property
    def images_with(self) -> dict[str, np.ndarray]:
        """Part → (classes,) int64, images that show each class."""
        none = np.zeros(len(self.classes.names), np.int64)
        return {part: sum((counts > 0 for counts in self._counts(part)), none) for part in self.parts}

    def ignored(self, part: str) -> float:
        """The share of a part's pixels that are ignored."""
        total = sum(pair.size[0] * pair.size[1] for pair in self.readable if pair.part == part and pair.size)
        return 1.0 - float(self.pixels[part].sum()) / total if total else 0.0

    def _counts(self, part: str) -> list[np.ndarray]:
        return [pair.counts for pair in self.readable if pair.part == part and pair.counts is not None]

    def findings(self) -> list[str]:
        """What is wrong, one line each."""
        lines = [pair.problem for pair in self.pairs if pair.problem is not None]
        void = [pair.name for pair in self.readable if pair.counts is not None and not pair.counts.any()]
        if void:
            lines.append(f"masks that are void, every pixel ignored: {len(void):,}, of {join_few(void)}")
        for part, pixels in self.pixels.items():
            missing = [name for name, count in zip(self.classes.names, pixels, strict=True) if not count]
            if not self._counts(part):
                continue  # every pair is named by its own problem
            if problem := lacking(pixels, self.classes):
                lines.append(f"{_called(part)}: {problem}")
            elif missing:
                lines.append(f"{_called(part)}: no pixel is of {join_few(missing)}")
        return lines + self._duplicates()

    def _duplicates(self) -> list[str]:
        lines = []
        for group in same_digests([pair.digest for pair in self.readable if pair.digest is not None]):
            members = [self.readable[place] for place in group]
            across = " (across parts)" if len({pair.part for pair in members}) > 1 else ""
            lines.append(f"exact duplicates{across}: {join_few(pair.name for pair in members)}")
        return sorted(lines, key=lambda line: "across" not in line)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        sides = np.array([pair.size for pair in self.readable], dtype=np.int64).reshape(-1, 2)
        return {
            "pairs": {part: sum(pair.part == part for pair in self.pairs) for part in self.parts},
            "pixels": {
                part: dict(zip(self.classes.names, self.pixels[part].tolist(), strict=True)) for part in self.parts
            },
            "images_with": {
                part: dict(zip(self.classes.names, self.images_with[part].tolist(), strict=True)) for part in self.parts
            },
            "ignored": {part: self.ignored(part) for part in self.parts},
            "sizes": {
                name: [float(side.min()), float(np.median(side)), float(side.max())]
                for name, side in (("width", sides[:, 0]), ("height", sides[:, 1]))
                if len(side)
            },
            "unusable": [
                {"image": pair.name, "part": pair.part, "problem": pair.problem} for pair in self.pairs if pair.problem
            ],
            "findings": self.findings(),
        }

    def contact_sheets(self) -> dict[str, Image.Image]:
        """A picture of every part: the colors of the classes, then images, each before itself under its mask."""
        sheets = {}
        for part in self.parts:
            tiles = self._legend(part)
            for pair in self.pairs:
                if pair.part == part and pair.thumbnails is not None:
                    name = Path(pair.name).name
                    tiles += [Tile(pair.thumbnails[0], (name,)), Tile(pair.thumbnails[1], ())]
            count = sum(pair.part == part for pair in self.pairs)
            sheets[part] = contact_sheet(f"{_called(part)}: {count:,} images with masks", tiles)
        return sheets

    def _legend(self, part: str) -> list[Tile]:
        """A patch of its color for every class that the part shows; filled up to whole rows."""
        total = max(1, int(self.pixels[part].sum()))
        tiles = [
            Tile(Image.new("RGB", (THUMBNAIL, THUMBNAIL // 3), color), (name, f"{count / total:.2%} of pixels"))
            for name, color, count in zip(self.classes.names, self.classes.colors, self.pixels[part], strict=True)
            if count
        ]
        return tiles + [Tile(Image.new("RGB", (1, 1), "white"), ())] * (-len(tiles) % COLUMNS)


def _called(part: str) -> str:
    return "all" if part == UNSPLIT else f"the {part} part"
