"""The label map of an image, and the augmentation that moves it together with the image.

Shape letters: B batch, h w cells of the map, k classes stored for each cell, best first.
"""

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from volo.data.classification.augment import Augmentation
from volo.data.classification.rand_augment import Affine, Operation

#: The box of a crop that keeps the whole image.
FULL_BOX = (0.0, 0.0, 1.0, 1.0)


class LabelMap(NamedTuple):
    """The token labels of one image: a teacher's best logits for every cell.

    Attributes:
        scores: (h, w, k) float16, raw logits; classes that are not among the k best count as score zero.
        classes: (h, w, k) unsigned integers, the class indices of the scores.
        box: (left, top, width, height) of the crop, as shares of the width and height that the map covers.
    """

    scores: np.ndarray
    classes: np.ndarray
    box: tuple[float, float, float, float] = FULL_BOX


class LabelMaps(NamedTuple):
    """The label maps of a batch.

    Attributes:
        scores: (B, h, w, k) float16.
        classes: (B, h, w, k) int32.
        boxes: (B, 4) float32.
    """

    scores: Tensor
    classes: Tensor
    boxes: Tensor


def move_labels(labels: LabelMap, drawn: Augmentation) -> LabelMap:
    """Return the label map of a whole image after the augmentation ``drawn``.

    The map is flipped, rotated, sheared and shifted as the image is, by nearest cells; the crop is recorded as its box.
    Cells that come from outside the image get score zero.

    Raises:
        ValueError: The movement of an operation is not known.
    """
    scores, classes, _ = labels
    moving = [
        operation for operation in drawn.operations if operation.resample is not None
    ]  # the other operations only recolor
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
    """Find the source of every cell after the augmentation.

    Returns:
        Row and column of the source cell, each (h, w) int64, and whether the source lies inside the image, (h, w) bool.
    """
    (h, w), (width, height) = grid, drawn.size
    x, y = np.meshgrid((np.arange(w) + 0.5) * (width / w), (np.arange(h) + 0.5) * (height / h))
    inside = np.ones((h, w), dtype=bool)
    for operation in reversed(moving):
        a, b, c, d, e, f = _affine(operation, drawn.size)
        x, y = a * x + b * y + c, d * x + e * y + f
        # Checked after every operation: pixels that one operation moves out of the image are lost for the next one.
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
        raise ValueError(f"{operation.name} moves pixels, but its effect on token labels is not known; leave it out")
    return affine


class TokenLabels(Protocol):
    """Token labels of an image set, in the order of its images."""

    def read(self, index: int) -> LabelMap:
        """Return the label map of one image.

        Raises:
            ImageError: The image has no label map, or its label map cannot be read.
        """
