"""How good a trained model is on labelled images. Needs the extra ``volo[train]``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from volo.data import EvalImages, ImageSet, eval_loader
from volo.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores, and what was predicted for every readable image.

    Attributes:
        class_names: in the order of the indices.
        loss: mean cross-entropy.
        top1: share of images whose likeliest class is right.
        top5: share of images whose class is among the five likeliest; None with five classes or fewer.
        confusion: (classes, classes) int64, counts; rows are the true classes.
        indices: (N,) places in the image set.
        labels: (N,) true classes.
        predicted: (N,) likeliest classes.
        probability: (N,) their probabilities.
        problems: one message for each image that could not be read.
    """

    class_names: tuple[str, ...]
    loss: float
    top1: float
    top5: float | None
    confusion: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    problems: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The scores as JSON values, and per class the share of its images named right (None without images)."""
        counts = self.confusion.sum(axis=1)
        right = np.diag(self.confusion)
        return {
            "images": len(self.labels),
            "unreadable": len(self.problems),
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "recall": {
                name: round(float(right[i] / counts[i]), 4) if counts[i] else None
                for i, name in enumerate(self.class_names)
            },
        }


def evaluate(
    predictor: Predictor,
    images: ImageSet,
    *,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Classify ``images`` and compare with their labels.

    Args:
        predictor: the trained model.
        images: its class names must be among the model's; labels are matched by name.
        batch_size: images at a time.
        workers: processes that decode; 0 decodes here.
        on_batch: called after every batch with the number of images done.

    Raises:
        ValueError: a class that the model does not know, a model of one class, or not one readable image.
    """
    if not len(images.labels):
        raise ValueError("there are no images to judge the model on")
    if len(predictor.class_names) < 2:
        raise ValueError(f"a model of one class, {predictor.class_names[0]!r}, is always right: nothing to judge")
    translate = _translate(images.class_names, predictor.class_names)
    loader = eval_loader(EvalImages(images, predictor.preprocessing.pixels), batch_size=batch_size, workers=workers)
    probabilities, labels, indices, problems = [], [], [], []
    for batch in loader:
        problems += batch.problems
        if len(batch.labels):
            probabilities.append(predictor.probabilities(batch.images))
            labels.append(translate[batch.labels])
            indices.append(batch.indices)
        if on_batch is not None:
            on_batch(len(batch.labels) + len(batch.problems))
    if not labels:
        raise ValueError(f"none of the {len(images.labels)} images can be read; the first: {problems[0]}")
    all_probabilities, all_labels = torch.cat(probabilities), torch.cat(labels)
    classes = len(predictor.class_names)
    top1, top5 = (
        float(multiclass_accuracy(all_probabilities, all_labels, classes, average="micro", top_k=k))
        for k in (1, min(5, classes))
    )
    best = all_probabilities.max(dim=1)
    return Evaluation(
        class_names=predictor.class_names,
        loss=float(F.nll_loss(all_probabilities.clamp_min(1e-12).log(), all_labels)),
        top1=top1,
        top5=top5 if classes > 5 else None,
        confusion=multiclass_confusion_matrix(all_probabilities, all_labels, classes).numpy(),
        indices=torch.cat(indices).numpy(),
        labels=all_labels.numpy(),
        predicted=best.indices.numpy(),
        probability=best.values.numpy(),
        problems=tuple(problems),
    )


def _translate(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> torch.Tensor:
    """The model's index of every class of the data."""
    unknown = [name for name in data_names if name not in model_names]
    if unknown:
        raise ValueError(
            f"the model does not know the classes {', '.join(unknown[:5])}"
            f"{' and more' if len(unknown) > 5 else ''}; it knows: {', '.join(model_names[:10])}"
            f"{' and more' if len(model_names) > 10 else ''}"
        )
    return torch.tensor([model_names.index(name) for name in data_names])
