"""The map of an image's token labels, and how augmentation moves it together with the image.

Shape letters: B batch, h w cells of the map, k classes kept for each cell, best first.
"""

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from volo.data.classification.augment import Augmentation
from volo.data.classification.rand_augment import Affine, Operation

#: The box of a crop that keeps everything.
FULL_BOX = (0.0, 0.0, 1.0, 1.0)


class LabelMap(NamedTuple):
    """What a teacher sees in every cell of an image.

    Attributes:
        scores: (h, w, k) float16, raw logits; a class that is not among the k best has score zero.
        classes: (h, w, k) unsigned integers, their indices.
        box: left, top, width and height of the crop, as shares of the sides that the map covers.
    """

    scores: np.ndarray
    classes: np.ndarray
    box: tuple[float, float, float, float] = FULL_BOX


class LabelMaps(NamedTuple):
    """The label maps of a batch: ``scores`` (B, h, w, k) float16, ``classes`` int32, ``boxes`` (B, 4) float32."""

    scores: Tensor
    classes: Tensor
    boxes: Tensor


def move_labels(labels: LabelMap, drawn: Augmentation) -> LabelMap:
    """The map of a whole image after ``drawn``: flipped, turned, sheared, shifted by nearest cells; the crop as a box.

    Cells that come from outside the image have score zero.

    Raises:
        ValueError: an operation moves pixels in a way that is not known here.
    """
    scores, classes, _ = labels
    moving = [operation for operation in drawn.operations if operation.resample is not None]  # the others recolor
    if moving:
        rows, columns, inside = _sources(scores.shape[:2], drawn, moving)
        scores, classes = scores[rows, columns], classes[rows, columns]
        scores[~inside], classes[~inside] = 0, 0
    elif drawn.flip:
        scores, classes = scores[:, ::-1].copy(), classes[:, ::-1].copy()
    (left, top, right, bottom), (width, height) = drawn.box, drawn.size
    return LabelMap(scores, classes, (left / width, top / height, (right - left) / width, (bottom - top) / height))


def _sources(
    grid: tuple[int, ...], drawn: Augmentation, moving: list[Operation]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every cell after the augmentation, the row and column (h, w) it comes from, and whether there is one."""
    (h, w), (width, height) = grid, drawn.size
    x, y = np.meshgrid((np.arange(w) + 0.5) * (width / w), (np.arange(h) + 0.5) * (height / h))
    inside = np.ones((h, w), dtype=bool)
    for operation in reversed(moving):
        a, b, c, d, e, f = _affine(operation, drawn.size)
        x, y = a * x + b * y + c, d * x + e * y + f
        # At every step: what one operation pushes out of the picture the next cannot bring back.
        inside &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if drawn.flip:
        x = width - x
    columns, rows = (x * (w / width)).astype(np.int64), (y * (h / height)).astype(np.int64)
    return rows.clip(0, h - 1), columns.clip(0, w - 1), inside


def _affine(operation: Operation, size: tuple[int, int]) -> Affine:
    try:
        affine = operation.affine(size)
    except KeyError:
        affine = None
    if affine is None:
        raise ValueError(f"{operation.name} moves pixels, but how it moves token labels is not known; leave it out")
    return affine


class TokenLabels(Protocol):
    """Token labels of the images of a set, in the set's order."""

    def read(self, index: int) -> LabelMap:
        """The label map of one image. Raises ImageError where it has none that can be read."""
