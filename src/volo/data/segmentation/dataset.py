"""Batches of images with their masks, drawn as those of :mod:`volo.data.loader` are."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volo.data.images import ImageError
from volo.data.loader import Key, Samples, first_readable, sample_generator
from volo.data.preprocessing import as_array
from volo.data.segmentation.augment import SegmentationTransform
from volo.data.segmentation.pairs import MaskedImages


class PairSample(NamedTuple):
    """``pixels`` (H, W, channels) and ``mask`` (H, W), uint8, both None where unreadable, and what was wrong."""

    pixels: np.ndarray | None
    mask: np.ndarray | None
    position: int
    problems: tuple[str, ...]


class SegmentationBatch(NamedTuple):
    """``images`` (B, channels, H, W) uint8, channels-last in memory; ``masks`` (B, H, W) uint8; ``indices`` (B,) int64.

    Masks hold indices of classes, or ``IGNORE``: one byte a pixel until they are on the device. ``problems`` are the
    messages of pairs that could not be read and are not in the batch.
    """

    images: Tensor
    masks: Tensor
    indices: Tensor
    problems: tuple[str, ...]


class SegmentationTrainSet(Samples):
    """Augmented pairs; one that cannot be read, or whose mask does not fit, gives way to the next that can."""

    def __init__(self, images: MaskedImages, transform: SegmentationTransform, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> PairSample:
        augmented, chosen, problems = first_readable(key[1], len(self), partial(self._augmented, key))
        pixels, mask = augmented or (None, None)
        return PairSample(pixels, mask, chosen, problems)

    def _augmented(self, key: Key, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.transform(*self.images.read_pair(index), sample_generator(self.seed, key))

    def collate(self, samples: list[PairSample]) -> SegmentationBatch:
        return collate_pairs(samples)


class SegmentationEvalSet(Samples):
    """Whole images with their masks, as large as they are; one that cannot be read is left out of its batch."""

    def __init__(self, images: MaskedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PairSample:
        try:
            image, mask = self.images.read_pair(index)
        except ImageError as error:
            return PairSample(None, None, index, (str(error),))
        return PairSample(as_array(image), mask, index, ())

    def collate(self, samples: list[PairSample]) -> SegmentationBatch:
        return collate_pairs(samples)

    def batches(self, indices: Sequence[int], batch_size: int) -> list[list[int]]:
        """At most ``batch_size`` images of one size at a time."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            by_size.setdefault(self.images.sizes[index], []).append(index)
        batches: list[list[int]] = []
        for members in by_size.values():
            batches += super().batches(members, batch_size)
        return batches


def collate_pairs(samples: list[PairSample]) -> SegmentationBatch:
    """Stack samples of one size; those without pixels only leave their problems."""
    problems = tuple(problem for sample in samples for problem in sample.problems)
    good = [(s.pixels, s.mask, s.position) for s in samples if s.pixels is not None and s.mask is not None]
    if not good:
        return SegmentationBatch(
            torch.empty(0, 1, 1, 1).byte(), torch.empty(0, 1, 1).byte(), torch.empty(0).long(), problems
        )
    pixels, masks, positions = zip(*good, strict=True)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return SegmentationBatch(images, torch.from_numpy(np.stack(masks)), torch.tensor(positions), problems)
