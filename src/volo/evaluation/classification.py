"""How good a trained model is on labeled images. Needs the extra ``volo[train]``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from volo.data import EvalImages, ImageSet, eval_loader
from volo.evaluation.confusion import confused_pairs, group_classes
from volo.evaluation.metrics import (
    ClassScores,
    chance_calibration_error,
    class_scores,
    confidence_intervals,
    overall_scores,
)
from volo.inference.predictor import Predictor
from volo.messages import join_few


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was said of every readable image, and the scores that follow from it.

    N readable images, K classes. Nothing here grows with N × K, so that any number of images can be judged.

    Attributes:
        class_names: the K classes that were chosen among, in the order of their indices.
        indices: (N,) places in the image set.
        labels: (N,) true classes.
        ranked: (N, 5 or K) the likeliest classes, best first; fewer than five where there are fewer.
        probability: (N,) float32, of the likeliest class.
        label_probability: (N,) float32, of the true class.
        problems: one message for each image that could not be read.
    """

    class_names: tuple[str, ...]
    indices: np.ndarray
    labels: np.ndarray
    ranked: np.ndarray
    probability: np.ndarray
    label_probability: np.ndarray
    problems: tuple[str, ...] = ()

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the likeliest classes."""
        return self.ranked[:, 0]

    @cached_property
    def right(self) -> np.ndarray:
        """(N,) bool, whether the likeliest class is the true one."""
        return self.predicted == self.labels

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(-np.log(self.label_probability.astype(np.float64).clip(1e-12)).mean())

    @property
    def headline(self) -> str:
        """The score to show first."""
        return f"top-1 {self.top1:.2%}"

    @property
    def counted(self) -> str:
        """What ``confusion`` counts."""
        return "images"

    @property
    def top1(self) -> float:
        """Share of images whose likeliest class is right."""
        return self.scores["top1"]

    @property
    def top5(self) -> float | None:
        """Share of images whose class is among the five likeliest; None with five classes or fewer."""
        return self.scores["top5"]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """``top1``, ``top5``, ``balanced_accuracy`` and ``calibration_error``: see :func:`overall_scores`."""
        return self._scores_of(np.arange(len(self.labels)))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % confidence intervals of ``scores``: see :func:`confidence_intervals`."""
        return confidence_intervals(self._scores_of, len(self.labels))

    @cached_property
    def chance_calibration_error(self) -> float:
        """What a perfectly calibrated model's calibration error stays below: see :func:`chance_calibration_error`."""
        return chance_calibration_error(self.probability)

    def _scores_of(self, rows: np.ndarray) -> dict[str, float | None]:
        return overall_scores(self.labels[rows], self.ranked[rows], self.probability[rows], len(self.class_names))

    @cached_property
    def classes(self) -> ClassScores:
        """Precision, recall, F1 and number of images of every class."""
        return class_scores(self.labels, self.predicted, len(self.class_names))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K, K) int64, counts; rows are the true classes."""
        predicted, labels = torch.from_numpy(self.predicted), torch.from_numpy(self.labels)
        return multiclass_confusion_matrix(predicted, labels, len(self.class_names)).numpy()

    @cached_property
    def confused(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, images), the commonest confusions first."""
        return confused_pairs(self.confusion)

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Indices of the classes that belong together: see :func:`group_classes`."""
        return group_classes(self.confusion)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without an image, which have no score."""
        return tuple(name for name, count in zip(self.class_names, self.classes.images, strict=True) if not count)

    def summary(self) -> dict[str, Any]:
        """The scores as JSON values, and their 95 % intervals."""
        return {
            "images": len(self.labels),
            "unreadable": len(self.problems),
            "classes": len(self.class_names),
            "classes_without_images": len(self.absent),
            **{name: value and round(value, 6) for name, value in {"loss": self.loss, **self.scores}.items()},
            "chance_calibration_error": round(self.chance_calibration_error, 6),
            "intervals": {name: ends and [round(end, 6) for end in ends] for name, ends in self.intervals.items()},
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
    """Classify ``images`` and compare with their labels.

    Args:
        predictor: the trained model.
        images: its class names must be among the model's; labels are matched by name.
        classes: the model's indices of the classes to choose among: softmax is over their logits alone, and the
            evaluation knows no others. None takes all.
        batch_size: images at a time.
        workers: processes that decode; 0 decodes here.
        on_batch: called after every batch with the number of images done.

    Raises:
        ValueError: a class that is not among those of the model, fewer than two classes, or not one readable image.
    """
    if not len(images.labels):
        raise ValueError("there are no images to judge the model on")
    chosen = _chosen(classes, len(predictor.class_names))
    class_names = tuple(predictor.class_names[index] for index in chosen)
    if len(class_names) < 2:
        raise ValueError(f"a model of one class, {class_names[0]!r}, is always right: nothing to judge")
    translate = torch.tensor(model_indices(images.class_names, class_names))
    # Photos differ in size, and only images of one size make a batch.
    batch_size = 1 if predictor.takes_photos else batch_size
    loader = eval_loader(EvalImages(images, predictor.preprocess), batch_size=batch_size, workers=workers)
    # Room for all answers at once: small pieces, kept one after the other, would keep the heap from being used again.
    kept = _room(len(images.labels), min(5, len(class_names)))
    done, problems = 0, []
    for batch in loader:
        problems += batch.problems
        if len(batch.labels):
            logits = predictor.logits(batch.images)
            logits = logits if classes is None else logits[:, chosen]
            answers = (batch.indices, *_answers(logits.softmax(dim=-1), translate[batch.labels]))
            for store, values in zip(kept, answers, strict=True):
                store[done : done + len(values)] = values
            done += len(batch.labels)
        if on_batch is not None:
            on_batch(len(batch.labels) + len(batch.problems))
    if not done:
        raise ValueError(f"none of the {len(images.labels)} images can be read; the first: {problems[0]}")
    indices, labels, ranked, probability, label_probability = (store[:done].numpy() for store in kept)
    return Evaluation(
        class_names=class_names,
        indices=indices,
        labels=labels,
        ranked=ranked,
        probability=probability,
        label_probability=label_probability,
        problems=tuple(problems),
    )


def _room(images: int, ranks: int) -> tuple[torch.Tensor, ...]:
    """Empty tensors for the index, label, likeliest classes and two probabilities of every image."""
    whole, real = (images,), torch.float32
    shapes = ((whole, torch.int64), (whole, torch.int64), ((images, ranks), torch.int64), (whole, real), (whole, real))
    return tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes)


def _answers(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Labels (B,), the likeliest classes (B, 5 or K), and the probabilities (B,) of the first and of the true one."""
    best = probabilities.topk(min(5, probabilities.shape[1]))
    return labels, best.indices, best.values[:, 0], probabilities.gather(1, labels[:, None])[:, 0]


def _chosen(classes: Sequence[int] | None, count: int) -> list[int]:
    """The indices to choose among."""
    if classes is None:
        return list(range(count))
    wrong = [index for index in classes if not 0 <= index < count]
    if wrong or len(set(classes)) < len(classes) or not len(classes):
        reason = f"{wrong[0]} is not one of 0–{count - 1}" if wrong else "there are none, or one is there twice"
        raise ValueError(f"classes must be different indices of the model's {count} classes: {reason}")
    return [int(index) for index in classes]


def model_indices(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> list[int]:
    """The model's index of every class of the data.

    Raises:
        ValueError: the model does not know a class.
    """
    places = {name: index for index, name in enumerate(model_names)}
    unknown = [name for name in data_names if name not in places]
    if unknown:
        raise ValueError(
            f"the model does not know the classes {join_few(unknown)} ({len(unknown)} of the data's "
            f"{len(data_names)}); it knows {len(model_names)}: {join_few(model_names)}; "
            "rename these classes or leave their images out"
        )
    return [places[name] for name in data_names]
