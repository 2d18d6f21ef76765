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


class Sample(NamedTuple):
    """One image: ``pixels`` (H, W, channels) uint8, None where unreadable, and what was wrong on the way.

    ``tokens`` are the labels of its cells, moved as its pixels were, where it has such labels.
    """

    pixels: np.ndarray | None
    label: int
    position: int
    problems: tuple[str, ...]
    tokens: LabelMap | None = None


class Batch(NamedTuple):
    """``images`` (B, channels, H, W) uint8, channels-last in memory; ``labels`` and ``indices`` (B,) int64.

    ``problems`` are the messages of images that could not be read and are not in the batch. ``tokens`` are the
    labels of the images' cells, None where the data have none.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    problems: tuple[str, ...]
    tokens: LabelMaps | None = None


class TrainImages(Samples):
    """Augmented training images; one that cannot be read gives way to the next that can.

    Indices from the number of images on stand for the same images once more, with draws of their own.

    Where none of :data:`TRIES` can, as when a disk has gone, the sample has no pixels: the process that trains reports
    that better than one that loads.
    """

    def __init__(
        self, images: ImageSet, transform: TrainTransform, seed: int, token_labels: TokenLabels | None = None
    ) -> None:
        self.images, self.transform, self.seed, self.token_labels = images, transform, seed, token_labels

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, key: Key) -> Sample:
        augmented, chosen, problems = first_readable(key[1], len(self), partial(self._augmented, key))
        pixels, tokens = augmented or (None, None)
        return Sample(pixels, self.images.labels[chosen], chosen, problems, tokens)

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)

    def _augmented(self, key: Key, index: int) -> tuple[np.ndarray, LabelMap | None]:
        rng = sample_generator(self.seed, key)
        tokens = None if self.token_labels is None else self.token_labels.read(index)
        drawn: Augmentation | None = None

        def shrink(size: tuple[int, int]) -> float:
            nonlocal drawn
            drawn = self.transform.draw(size, rng)
            return drawn.shrink(self.transform.size)

        image = self.images.read(index, shrink)
        drawn = drawn or self.transform.draw(image.size, rng)
        return self.transform.apply(image, drawn), None if tokens is None else move_labels(tokens, drawn)


class EvalImages(Samples):
    """Images as evaluation wants them; one that cannot be read is left out of its batch."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], np.ndarray]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> Sample:
        label = self.images.labels[index]
        try:
            return Sample(self.transform(self.images.read(index)), label, index, ())
        except ImageError as error:
            return Sample(None, label, index, (str(error),))

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size; those without pixels only leave their problems."""
    problems = tuple(problem for sample in samples for problem in sample.problems)
    good = [(sample.pixels, sample) for sample in samples if sample.pixels is not None]
    images = torch.from_numpy(np.stack([pixels for pixels, _ in good])) if good else torch.empty(0, 1, 1, 1).byte()
    labels = torch.tensor([sample.label for _, sample in good], dtype=torch.int64)
    indices = torch.tensor([sample.position for _, sample in good], dtype=torch.int64)
    maps = [sample.tokens for _, sample in good if sample.tokens is not None]
    return Batch(images.permute(0, 3, 1, 2), labels, indices, problems, _stack(maps) if maps else None)


def _stack(maps: list[LabelMap]) -> LabelMaps:
    if len({labels.scores.shape for labels in maps}) > 1:
        raise ValueError(f"label maps of one batch differ in shape: {sorted({m.scores.shape for m in maps})}")
    scores, classes = np.stack([m.scores for m in maps]), np.stack([m.classes for m in maps]).astype(np.int32)
    return LabelMaps(torch.from_numpy(scores), torch.from_numpy(classes), torch.tensor([m.box for m in maps]))
