"""How good a segmentation model is on images with masks. Needs the extra ``volo[train]``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

from volo.data import IGNORE, Color, MaskedImages, SegmentationEvalSet, eval_loader
from volo.evaluation.classification import model_indices
from volo.evaluation.confusion import confused_pairs, group_classes
from volo.evaluation.metrics import confidence_intervals
from volo.inference.mask_pictures import shrunk
from volo.inference.segmenter import Segmenter

#: The images with the least share of right pixels that are kept to be shown, and the longer side they are kept at.
MOST_WORST, WORST_SIDE = 6, 480
#: Pixels that are compared at a time.
_AT_A_TIME = 1 << 22

#: What each score is called where a person reads it.
SCORE_NAMES = {"miou": "mean IoU", "pixel_accuracy": "pixel accuracy"}


@dataclass(frozen=True, order=True)
class Shown:
    """An image as it is shown among the worst, made small.

    Attributes:
        accuracy: share of its pixels that are right.
        index: its place in the data.
        photo: the image.
        truth: its mask, uint8, of the same size.
        predicted: what the model takes it for, likewise.
    """

    accuracy: float
    index: int
    photo: Image.Image = field(compare=False)
    truth: np.ndarray = field(compare=False)
    predicted: np.ndarray = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation:
    """How the pixels of every readable image were taken, and the scores that follow from it.

    N readable images, K classes. Pixels that the masks ignore count nowhere.

    Attributes:
        class_names: the model's K classes, in the order of their indices.
        class_colors: (red, green, blue) of every class.
        indices: (N,) places in the data.
        right: (N, K) int64, pixels of each class that were taken for it.
        true: (N, K) int64, pixels of each class.
        predicted: (N, K) int64, pixels that were taken for each class.
        confusion: (K, K) int64, pixels; rows are the true classes.
        worst: images to show, the worst first.
        problems: one message for each image that could not be read.
    """

    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    indices: np.ndarray
    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    confusion: np.ndarray
    worst: tuple[Shown, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def iou(self) -> np.ndarray:
        """(K,) of every class, the pixels rightly taken for it by those that are it or were taken for it.

        NaN where there are none of either.
        """
        return self._iou(self.right.sum(axis=0), self.true.sum(axis=0), self.predicted.sum(axis=0))

    @cached_property
    def scores(self) -> dict[str, float]:
        """``miou``, the mean of ``iou`` over the classes that have one, and ``pixel_accuracy``, of all pixels."""
        return self._scores_of(np.arange(len(self.indices)))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % confidence intervals of ``scores``, by drawing images: see :func:`confidence_intervals`."""
        return confidence_intervals(lambda rows: dict(self._scores_of(rows)), len(self.indices))

    @cached_property
    def image_scores(self) -> dict[str, np.ndarray]:
        """``scores`` of every image by itself, (N,) each."""
        iou = self._iou(self.right, self.true, self.predicted)
        return {
            "miou": np.nanmean(iou, axis=1),
            "pixel_accuracy": self.right.sum(axis=1) / self.true.sum(axis=1),
        }

    @property
    def headline(self) -> str:
        """The score to show first."""
        return f"mean IoU {self.scores['miou']:.2%}"

    @property
    def counted(self) -> str:
        """What ``confusion`` counts."""
        return "pixels"

    @cached_property
    def confused(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, pixels), the commonest confusions first."""
        return confused_pairs(self.confusion)

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Indices of the classes that belong together: see :func:`group_classes`."""
        return group_classes(self.confusion)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no mask has a pixel of."""
        return tuple(name for name, count in zip(self.class_names, self.true.sum(axis=0), strict=True) if not count)

    def summary(self) -> dict[str, Any]:
        """The scores as JSON values, and their 95 % intervals."""
        return {
            "images": len(self.indices),
            "unreadable": len(self.problems),
            "pixels": int(self.true.sum()),
            "classes": len(self.class_names),
            "classes_without_pixels": len(self.absent),
            **{name: round(value, 6) for name, value in self.scores.items()},
            "intervals": {name: ends and [round(end, 6) for end in ends] for name, ends in self.intervals.items()},
            "iou": {
                name: None if np.isnan(iou) else round(float(iou), 6)
                for name, iou in zip(self.class_names, self.iou, strict=True)
            },
        }

    def _scores_of(self, rows: np.ndarray) -> dict[str, float]:
        right, true, predicted = (values[rows].sum(axis=0) for values in (self.right, self.true, self.predicted))
        return {
            "miou": float(np.nanmean(self._iou(right, true, predicted))),
            "pixel_accuracy": float(right.sum() / true.sum()),
        }

    @staticmethod
    def _iou(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        union = true + predicted - right
        return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def evaluate_segmentation(
    segmenter: Segmenter,
    images: MaskedImages,
    *,
    workers: int = 0,
    on_image: Callable[[], None] | None = None,
) -> SegmentationEvaluation:
    """Segment ``images`` and compare with their masks, at the masks' own size.

    Args:
        segmenter: the trained model, and how it looks at images.
        images: their class names must be among the model's; classes are matched by name.
        workers: processes that decode; 0 decodes here.
        on_image: called after every image.

    Raises:
        ValueError: a class that is not among those of the model, or not one readable image with a pixel of a class.
    """
    if len(segmenter.class_names) < 2:
        raise ValueError(f"a model of one class, {segmenter.class_names[0]!r}, is always right: nothing to judge")
    translate = np.full(256, IGNORE, dtype=np.uint8)
    indices = model_indices(images.class_names, segmenter.class_names)
    translate[: len(indices)] = indices
    tables: dict[int, np.ndarray] = {}
    problems: list[str] = []
    worst: list[Shown] = []
    confusion = np.zeros((len(segmenter.class_names),) * 2, dtype=np.int64)
    for batch in eval_loader(SegmentationEvalSet(images), batch_size=1, workers=workers):
        problems += batch.problems
        for pixels, mask, index in zip(batch.images, batch.masks, batch.indices.tolist(), strict=True):
            predicted, truth = segmenter(pixels).mask, translate[mask.numpy()]
            counts = count_pixels(predicted, truth, len(confusion))
            if counts.sum():  # else every pixel is ignored: nothing to judge
                confusion += counts
                tables[index] = np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
                accuracy = float(np.trace(counts) / counts.sum())
                if len(worst) < MOST_WORST or accuracy < worst[-1].accuracy:
                    worst = sorted([*worst, _shown(accuracy, index, pixels, truth, predicted)])[:MOST_WORST]
        if on_image is not None:
            on_image()
    if not tables:
        raise ValueError(
            f"none of the {len(images)} images can be judged: "
            + (f"the first says {problems[0]}" if problems else "every pixel of their masks is ignored")
        )
    right, true, taken = np.stack(list(tables.values()), axis=1)
    return SegmentationEvaluation(
        class_names=segmenter.class_names,
        class_colors=segmenter.class_colors,
        indices=np.array(list(tables)),
        right=right,
        true=true,
        predicted=taken,
        confusion=confusion,
        worst=tuple(worst),
        problems=tuple(problems),
    )


def count_pixels(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64 pixels by true (rows) and predicted class of two masks (H, W) uint8; IGNORE counts nowhere."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    masks = (torch.from_numpy(mask).flatten().split(_AT_A_TIME) for mask in (predicted, truth))
    for some, same in zip(*masks, strict=True):
        counts += multiclass_confusion_matrix(some, same, classes, ignore_index=IGNORE, validate_args=False)
    return counts.numpy()


def _shown(accuracy: float, index: int, pixels: torch.Tensor, truth: np.ndarray, predicted: np.ndarray) -> Shown:
    photo = Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy())
    small, masks = shrunk(photo, [truth, predicted], largest=WORST_SIDE)
    return Shown(accuracy, index, small, *masks)
