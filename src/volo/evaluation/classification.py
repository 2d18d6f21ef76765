"""Evaluation of a classifier on labeled images. Needs the extra ``volo[train]``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from volo.data import EvalImages, ImageSet, eval_loader
from volo.data.class_names import find_classes
from volo.evaluation.base import BaseEvaluation, rounded
from volo.evaluation.metrics import ClassScores, chance_calibration_error, class_scores, overall_scores
from volo.inference.predictor import Predictor
from volo.messages import join_few


@dataclass(frozen=True, kw_only=True)
class Evaluation(BaseEvaluation):
    """Predictions for every readable image, and the scores that follow from them.

    N readable images, K classes. No attribute has N × K values, so memory is enough for any number of images.

    Attributes:
        class_names: names of the K classes that were chosen among, in the order of their indices.
        indices: (N,) positions of the images in the image set.
        labels: (N,) true classes.
        ranked: (N, min(5, K)) most likely classes, best first.
        probability: (N,) float32, probability of the most likely class, 0–1.
        label_probability: (N,) float32, probability of the true class, 0–1.
        problems: one message for each unreadable image.
        notes: remarks about images that were read.
        trained_on: number of these images that the model was trained on; None if it is unknown.
    """

    score_names: ClassVar = {
        "top1": "top-1",
        "top5": "top-5",
        "balanced_accuracy": "balanced accuracy",
        "calibration_error": "calibration error",
    }
    counted = "images"

    labels: np.ndarray
    ranked: np.ndarray
    probability: np.ndarray
    label_probability: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(N,) most likely classes."""
        return self.ranked[:, 0]

    @cached_property
    def right(self) -> np.ndarray:
        """(N,) bool, True for correct predictions."""
        return self.predicted == self.labels

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(-np.log(self.label_probability.astype(np.float64).clip(1e-12)).mean())

    @property
    def top1(self) -> float:
        """Share of images whose most likely class is correct, 0–1."""
        return self.scores["top1"]

    @property
    def top5(self) -> float | None:
        """Share of images whose class is among the five most likely, 0–1; None with five classes or fewer."""
        return self.scores["top5"]

    @cached_property
    def chance_calibration_error(self) -> float:
        """Upper bound for the calibration error of a calibrated model: see :func:`chance_calibration_error`."""
        return chance_calibration_error(self.probability)

    def _scores_of(self, rows: np.ndarray) -> dict[str, float | None]:
        return overall_scores(self.labels[rows], self.ranked[rows], self.probability[rows], len(self.class_names))

    @cached_property
    def classes(self) -> ClassScores:
        """Precision, recall, F1 and number of images of each class."""
        return class_scores(self.labels, self.predicted, len(self.class_names))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K, K) int64, counts; rows are the true classes."""
        predicted, labels = torch.from_numpy(self.predicted), torch.from_numpy(self.labels)
        return multiclass_confusion_matrix(predicted, labels, len(self.class_names)).numpy()

    @property
    def support(self) -> np.ndarray:
        """(K,) number of images of each true class."""
        return self.classes.images

    def summary(self) -> dict[str, Any]:
        """Return the scores and their 95 % intervals as JSON values."""
        return {
            "images": len(self.labels),
            "unreadable": len(self.problems),
            "trained_on": self.trained_on,
            "classes": len(self.class_names),
            "classes_without_images": len(self.absent),
            **rounded({"loss": self.loss, **self.scores}),
            **rounded({"chance_calibration_error": self.chance_calibration_error}),
            "intervals": self._rounded_intervals(),
        }


def evaluate(
    predictor: Predictor,
    images: ImageSet,
    *,
    classes: Sequence[int] | None = None,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Classify ``images`` and compare the predictions with their labels.

    Args:
        predictor: the trained model.
        images: labeled images. Their class names must be among the model's; labels are matched by name.
        classes: the model's indices of the classes to choose among. The softmax is over the logits of these classes
            only, and the evaluation contains no other class. None means all classes.
        batch_size: number of images in a batch.
        workers: number of processes that decode images; 0 decodes in this process.
        on_batch: called after every batch with the number of its images.

    Raises:
        ValueError: The model does not know a class of the data, there are fewer than two classes, or no image is
            readable.
    """
    if not len(images.labels):
        raise ValueError("there are no images to evaluate the model on")
    chosen = _chosen(classes, len(predictor.class_names))
    class_names = tuple(predictor.class_names[index] for index in chosen)
    if len(class_names) < 2:
        raise ValueError(f"a model of one class, {class_names[0]!r}, is always right: there is nothing to evaluate")
    translate = torch.tensor(model_indices(images.class_names, class_names))
    # A file that resizes images itself gets photos of different sizes, which cannot be stacked to a batch.
    batch_size = 1 if predictor.takes_photos else batch_size
    loader = eval_loader(EvalImages(images, predictor.preprocess), batch_size=batch_size, workers=workers)
    # Memory for all results is allocated once. Many small tensors that stay alive would fragment the heap.
    results = _empty_results(len(images.labels), min(5, len(class_names)))
    done, problems, notes = 0, [], []
    for batch in loader:
        problems += batch.problems
        notes += batch.notes
        if len(batch.labels):
            logits = predictor.logits(batch.images)
            logits = logits if classes is None else logits[:, chosen]
            new = (batch.indices, *_results(logits.softmax(dim=-1), translate[batch.labels]))
            for result, values in zip(results, new, strict=True):
                result[done : done + len(values)] = values
            done += len(batch.labels)
        if on_batch is not None:
            on_batch(len(batch.labels) + len(batch.problems))
    if not done:
        raise ValueError(f"none of the {len(images.labels)} images can be read; the first: {problems[0]}")
    indices, labels, ranked, probability, label_probability = (result[:done].numpy() for result in results)
    return Evaluation(
        class_names=class_names,
        indices=indices,
        labels=labels,
        ranked=ranked,
        probability=probability,
        label_probability=label_probability,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _empty_results(images: int, ranks: int) -> tuple[torch.Tensor, ...]:
    """Return uninitialized tensors for ``indices``, ``labels``, ``ranked`` and the two probabilities of all images."""
    shape, real = (images,), torch.float32
    shapes = ((shape, torch.int64), (shape, torch.int64), ((images, ranks), torch.int64), (shape, real), (shape, real))
    return tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes)


def _results(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return ``labels``, ``ranked`` and the two probabilities of a batch, from probabilities (B, K) and labels (B,)."""
    best = probabilities.topk(min(5, probabilities.shape[1]))
    return labels, best.indices, best.values[:, 0], probabilities.gather(1, labels[:, None])[:, 0]


def _chosen(classes: Sequence[int] | None, count: int) -> list[int]:
    """Return the indices of the classes to choose among, checked."""
    if classes is None:
        return list(range(count))
    wrong = [index for index in classes if not 0 <= index < count]
    if wrong or len(set(classes)) < len(classes) or not len(classes):
        reason = f"{wrong[0]} is not one of 0–{count - 1}" if wrong else "the list is empty or repeats an index"
        raise ValueError(f"classes must be different indices of the model's {count} classes: {reason}")
    return [int(index) for index in classes]


def model_indices(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> list[int]:
    """Return the model's index of every class of the data.

    Raises:
        ValueError: The model does not know a class.
    """
    found = find_classes(data_names, model_names)
    unknown = [name for name, index in zip(data_names, found, strict=True) if index is None]
    if unknown:
        alike = {name.casefold() for name in unknown} & {name.casefold() for name in model_names}
        case = f", in other capitals {join_few(sorted(alike))}" if alike else ""
        raise ValueError(
            f"the model does not know the classes {join_few(unknown)} ({len(unknown)} of the data's "
            f"{len(data_names)}); it knows {len(model_names)}: {join_few(model_names)}{case}; "
            "rename these classes or leave their images out"
        )
    return [index for index in found if index is not None]
