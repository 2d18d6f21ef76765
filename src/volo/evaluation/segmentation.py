"""Evaluation of a segmentation model on images with masks. Needs the extra ``volo[train]``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

from volo.data import IGNORE, Color, ImageError, MaskedImages, SegmentationEvalSet, eval_loader
from volo.data.read_notes import NamedNote
from volo.evaluation.base import BaseEvaluation, rounded
from volo.evaluation.classification import model_indices
from volo.inference.mask_pictures import shrunk
from volo.inference.segmenter import Segmenter

#: Number of images with the lowest pixel accuracy that are kept for a plot, and their longer side in pixels.
MOST_WORST, WORST_SIDE = 6, 480
#: Pixels that are compared at a time, which bounds the memory for large masks.
_AT_A_TIME = 1 << 22


@dataclass(frozen=True, order=True)
class WorstImage:
    """An image with low pixel accuracy, reduced in size for a plot.

    Attributes:
        accuracy: share of its pixels that are correct, 0–1, at full size.
        index: its position in the data.
        photo: the image.
        truth: (H, W) uint8, its mask, of the photo's size.
        predicted: (H, W) uint8, the predicted mask, of the same size.
    """

    accuracy: float
    index: int
    photo: Image.Image = field(compare=False)
    truth: np.ndarray = field(compare=False)
    predicted: np.ndarray = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation(BaseEvaluation):
    """Counts of correct and wrong pixels in every readable image, and the scores that follow from them.

    N readable images, K classes. Pixels that the masks ignore are not counted.

    Attributes:
        class_names: names of the model's K classes, in the order of their indices.
        class_colors: (red, green, blue) of every class, 0–255.
        indices: (N,) positions of the images in the data.
        right: (N, K) int64, pixels of each class that were predicted as this class (true positives).
        true: (N, K) int64, pixels of each class in the masks.
        predicted: (N, K) int64, pixels that were predicted as each class.
        confusion: (K, K) int64, pixels; rows are the true classes.
        worst: the images with the lowest pixel accuracy, the worst first.
        problems: one message for each image that is unreadable, or too long for the model.
        notes: remarks about images that were read.
        trained_on: number of these images that the model was trained on; None if it is unknown.
    """

    score_names: ClassVar = {"miou": "mean IoU", "pixel_accuracy": "pixel accuracy"}
    counted = "pixels"

    class_colors: tuple[Color, ...]
    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    confusion: np.ndarray
    worst: tuple[WorstImage, ...] = ()

    @property
    def iou(self) -> np.ndarray:
        """(K,) TP / (TP + FP + FN) of each class over the pixels of all images, 0–1.

        NaN for a class that occurs in no mask and no prediction.
        """
        return self._iou(self.right.sum(axis=0), self.true.sum(axis=0), self.predicted.sum(axis=0))

    @cached_property
    def image_scores(self) -> dict[str, np.ndarray]:
        """``scores`` of each image alone: ``miou`` and ``pixel_accuracy``, (N,) each, 0–1."""
        iou = self._iou(self.right, self.true, self.predicted)
        return {
            "miou": np.nanmean(iou, axis=1),
            "pixel_accuracy": self.right.sum(axis=1) / self.true.sum(axis=1),
        }

    @property
    def support(self) -> np.ndarray:
        """(K,) number of pixels of each true class."""
        return self.true.sum(axis=0)

    def summary(self) -> dict[str, Any]:
        """Return the scores, their 95 % intervals and the IoU of each class as JSON values."""
        return {
            "images": len(self.indices),
            "unreadable": len(self.problems),
            "trained_on": self.trained_on,
            "pixels": int(self.true.sum()),
            "classes": len(self.class_names),
            "classes_without_pixels": len(self.absent),
            **rounded(self.scores),
            "intervals": self._rounded_intervals(),
            "iou": rounded(
                {
                    name: None if np.isnan(iou) else float(iou)
                    for name, iou in zip(self.class_names, self.iou, strict=True)
                }
            ),
        }

    def _scores_of(self, rows: np.ndarray) -> dict[str, float | None]:
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
    """Segment ``images`` and compare the predictions with their masks, at the masks' own size.

    Args:
        segmenter: the trained model, with its windows and views.
        images: images with masks. Their class names must be among the model's; classes are matched by name.
        workers: number of processes that decode images; 0 decodes in this process.
        on_image: called after every image.

    Raises:
        ValueError: The model has one class only, or does not know a class of the data, or no readable image has a
            pixel of a class.
    """
    if len(segmenter.class_names) < 2:
        raise ValueError(
            f"a model of one class, {segmenter.class_names[0]!r}, is always right: there is nothing to evaluate"
        )
    translate = np.full(256, IGNORE, dtype=np.uint8)
    indices = model_indices(images.class_names, segmenter.class_names)
    translate[: len(indices)] = indices
    tables: dict[int, np.ndarray] = {}
    problems: list[str] = []
    notes: list[NamedNote] = []
    worst: list[WorstImage] = []
    confusion = np.zeros((len(segmenter.class_names),) * 2, dtype=np.int64)
    for batch in eval_loader(SegmentationEvalSet(images), batch_size=1, workers=workers):
        problems += batch.problems
        notes += batch.notes
        for pixels, mask, index in zip(batch.images, batch.masks, batch.indices.tolist(), strict=True):
            try:
                predicted, truth = segmenter(pixels).mask, translate[mask.numpy()]
            except ImageError as error:
                problems.append(f"cannot use image {images.name(index)}: {error}")
                continue
            counts = count_pixels(predicted, truth, len(confusion))
            if counts.sum():  # 0 if the mask ignores every pixel
                confusion += counts
                tables[index] = np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
                accuracy = float(np.trace(counts) / counts.sum())
                if len(worst) < MOST_WORST or accuracy < worst[-1].accuracy:
                    worst = sorted([*worst, _small(accuracy, index, pixels, truth, predicted)])[:MOST_WORST]
        if on_image is not None:
            on_image()
    if not tables:
        raise ValueError(
            f"none of the {len(images)} images can be evaluated: "
            + (f"the first problem: {problems[0]}" if problems else "every pixel of their masks is ignored")
        )
    right, true, predicted_counts = np.stack(list(tables.values()), axis=1)
    return SegmentationEvaluation(
        class_names=segmenter.class_names,
        class_colors=segmenter.class_colors,
        indices=np.array(list(tables)),
        right=right,
        true=true,
        predicted=predicted_counts,
        confusion=confusion,
        worst=tuple(worst),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def count_pixels(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix of two masks: (K, K) int64 pixels; rows are the true classes.

    Args:
        predicted: (H, W) uint8, class indices.
        truth: (H, W) uint8, class indices; pixels of ``IGNORE`` are not counted.
        classes: K.
    """
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    masks = (torch.from_numpy(mask).flatten().split(_AT_A_TIME) for mask in (predicted, truth))
    for some, same in zip(*masks, strict=True):
        counts += multiclass_confusion_matrix(some, same, classes, ignore_index=IGNORE, validate_args=False)
    return counts.numpy()


def _small(accuracy: float, index: int, pixels: torch.Tensor, truth: np.ndarray, predicted: np.ndarray) -> WorstImage:
    """Reduce an image (C, H, W) uint8 and its masks in size."""
    photo = Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy())
    small, masks = shrunk(photo, [truth, predicted], largest=WORST_SIDE)
    return WorstImage(accuracy, index, small, *masks)
