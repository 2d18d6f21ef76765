"""Data sets and batches of images with their masks, for the loaders of :mod:`volo.data.loader`."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volo.data.images import ImageError
from volo.data.loader import Key, Samples, first_readable, sample_generator
from volo.data.preprocessing import as_array
from volo.data.read_notes import NamedNote, named_notes
from volo.data.segmentation.augment import SegmentationTransform
from volo.data.segmentation.pairs import MaskedImages


class PairSample(NamedTuple):
    """One image with its mask.

    Attributes:
        pixels: (H, W, channels) uint8, 0–255; None if the pair cannot be read.
        mask: (H, W) uint8, class indices or ``IGNORE``; None if the pair cannot be read.
        position: index of the pair in its data set.
        problems: error messages of pairs that could not be read.
        notes: remarks about the image that was read.
    """

    pixels: np.ndarray | None
    mask: np.ndarray | None
    position: int
    problems: tuple[str, ...]
    notes: tuple[NamedNote, ...] = ()


class SegmentationBatch(NamedTuple):
    """A batch of images with their masks.

    Attributes:
        images: (B, channels, H, W) uint8, 0–255, channels-last in memory.
        masks: (B, H, W) uint8, class indices or ``IGNORE``. The device converts them to int64, so that one byte per
            pixel is transferred.
        indices: (B,) int64, positions of the pairs in their data set.
        problems: error messages of pairs that could not be read and are not in the batch.
        notes: remarks about images that were read.
    """

    images: Tensor
    masks: Tensor
    indices: Tensor
    problems: tuple[str, ...]
    notes: tuple[NamedNote, ...] = ()


class SegmentationTrainSet(Samples):
    """Augmented pairs for training. A pair that is unreadable or differs in size is replaced by the next good pair."""

    def __init__(self, images: MaskedImages, transform: SegmentationTransform, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> PairSample:
        augmented, chosen, problems = first_readable(key[1], len(self), partial(self._augmented, key))
        pixels, mask, notes = augmented or (None, None, ())
        return PairSample(pixels, mask, chosen, problems, notes)

    def _augmented(self, key: Key, index: int) -> tuple[np.ndarray, np.ndarray, tuple[NamedNote, ...]]:
        image, mask = self.images.read_pair(index)
        pixels, moved = self.transform(image, mask, sample_generator(self.seed, key))
        return pixels, moved, named_notes(self.images.name(index), image)

    def collate(self, samples: list[PairSample]) -> SegmentationBatch:
        return collate_pairs(samples)


class SegmentationEvalSet(Samples):
    """Whole images with their masks, at their original sizes. A pair that cannot be read is left out of its batch."""

    def __init__(self, images: MaskedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PairSample:
        try:
            image, mask = self.images.read_pair(index)
        except ImageError as error:
            return PairSample(None, None, index, (str(error),))
        return PairSample(as_array(image), mask, index, (), named_notes(self.images.name(index), image))

    def collate(self, samples: list[PairSample]) -> SegmentationBatch:
        return collate_pairs(samples)

    def batches(self, indices: Sequence[int], batch_size: int) -> list[list[int]]:
        """Form batches of at most ``batch_size`` images, all of one size."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            by_size.setdefault(self.images.sizes[index], []).append(index)
        batches: list[list[int]] = []
        for members in by_size.values():
            batches += super().batches(members, batch_size)
        return batches


def collate_pairs(samples: list[PairSample]) -> SegmentationBatch:
    """Stack samples of one size into a batch. Samples without pixels contribute only their error messages."""
    problems = tuple(problem for sample in samples for problem in sample.problems)
    good = [(s.pixels, s.mask, s.position) for s in samples if s.pixels is not None and s.mask is not None]
    if not good:
        return SegmentationBatch(
            torch.empty(0, 1, 1, 1).byte(), torch.empty(0, 1, 1).byte(), torch.empty(0).long(), problems
        )
    pixels, masks, positions = zip(*good, strict=True)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    notes = tuple(note for sample in samples for note in sample.notes)
    return SegmentationBatch(images, torch.from_numpy(np.stack(masks)), torch.tensor(positions), problems, notes)
