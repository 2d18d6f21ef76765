"""Labeled images as samples and batches, for training and for evaluation."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data.classification.augment import Augmentation, TrainTransform
from volo.data.classification.label_map import LabelMap, LabelMaps, TokenLabels, move_labels
from volo.data.images import ImageError, ImageSet
from volo.data.loader import Key, Samples, first_readable, sample_generator
from volo.data.read_notes import NamedNote, named_notes


class Sample(NamedTuple):
    """One image with its label.

    Attributes:
        pixels: (H, W, channels) uint8, or None if no image could be read.
        label: class index.
        position: index of the image in its set.
        problems: one error message for each image that could not be read.
        tokens: token labels, moved together with the pixels; None if the data have none.
        notes: remarks about the image that was read.
    """

    pixels: np.ndarray | None
    label: int
    position: int
    problems: tuple[str, ...]
    tokens: LabelMap | None = None
    notes: tuple[NamedNote, ...] = ()


class Batch(NamedTuple):
    """A batch of labeled images.

    Attributes:
        images: (B, channels, H, W) uint8, channels-last in memory.
        labels: (B,) int64, class indices.
        indices: (B,) int64, indices of the images in their set.
        problems: one error message for each image that could not be read; such images are not in the batch.
        tokens: token labels of the images; None if the data have none.
        notes: remarks about images that were read.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    problems: tuple[str, ...]
    tokens: LabelMaps | None = None
    notes: tuple[NamedNote, ...] = ()


class TrainImages(Samples):
    """Augmented training images. The next readable image replaces one that cannot be read.

    Indices ≥ len(images) repeat the images with different augmentation.

    If :data:`~volo.data.loader.TRIES` images in a row cannot be read, for instance because a disk is gone, the sample
    has no pixels. The training process then reports the error, which it can do better than a loading process.
    """

    def __init__(
        self, images: ImageSet, transform: TrainTransform, seed: int, token_labels: TokenLabels | None = None
    ) -> None:
        self.images, self.transform, self.seed, self.token_labels = images, transform, seed, token_labels

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, key: Key) -> Sample:
        augmented, chosen, problems = first_readable(key[1], len(self), partial(self._augmented, key))
        pixels, tokens, notes = augmented or (None, None, ())
        return Sample(pixels, self.images.labels[chosen], chosen, problems, tokens, notes)

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)

    def _augmented(self, key: Key, index: int) -> tuple[np.ndarray, LabelMap | None, tuple[NamedNote, ...]]:
        """Read an image and its token labels, and augment both by the draws of ``key``; return notes, too."""
        rng = sample_generator(self.seed, key)
        tokens = None if self.token_labels is None else self.token_labels.read(index)
        # A large crop lets the decoder shrink the image while it decodes, which saves time. So the crop must be drawn
        # after the header is read, which gives the size, and before the pixels are decoded: the reader calls `shrink`
        # in between, and `shrink` keeps the draws in `augmentation`. Images in memory are read without calling it, and
        # are drawn for afterwards.
        augmentation: Augmentation | None = None

        def shrink(size: tuple[int, int]) -> float:
            nonlocal augmentation
            augmentation = self.transform.draw(size, rng)
            return augmentation.shrink(self.transform.size)

        image = self.images.read(index, shrink)
        augmentation = augmentation or self.transform.draw(image.size, rng)
        pixels = self.transform.apply(image, augmentation)
        moved = None if tokens is None else move_labels(tokens, augmentation)
        return pixels, moved, named_notes(self.images.name(index), image)


class EvalImages(Samples):
    """Images for evaluation, without augmentation; an image that cannot be read is left out of its batch."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], np.ndarray]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> Sample:
        label = self.images.labels[index]
        try:
            image = self.images.read(index)
            notes = named_notes(self.images.name(index), image)
            return Sample(self.transform(image), label, index, (), notes=notes)
        except ImageError as error:
            return Sample(None, label, index, (str(error),))

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size; a sample without pixels contributes only its problems."""
    problems = tuple(problem for sample in samples for problem in sample.problems)
    good = [(sample.pixels, sample) for sample in samples if sample.pixels is not None]
    images = torch.from_numpy(np.stack([pixels for pixels, _ in good])) if good else torch.empty(0, 1, 1, 1).byte()
    labels = torch.tensor([sample.label for _, sample in good], dtype=torch.int64)
    indices = torch.tensor([sample.position for _, sample in good], dtype=torch.int64)
    maps = [sample.tokens for _, sample in good if sample.tokens is not None]
    notes = tuple(note for sample in samples for note in sample.notes)
    return Batch(images.permute(0, 3, 1, 2), labels, indices, problems, _stack(maps) if maps else None, notes)


def _stack(maps: list[LabelMap]) -> LabelMaps:
    if len({labels.scores.shape for labels in maps}) > 1:
        raise ValueError(f"label maps of one batch differ in shape: {sorted({m.scores.shape for m in maps})}")
    scores, classes = np.stack([m.scores for m in maps]), np.stack([m.classes for m in maps]).astype(np.int32)
    return LabelMaps(torch.from_numpy(scores), torch.from_numpy(classes), torch.tensor([m.box for m in maps]))
