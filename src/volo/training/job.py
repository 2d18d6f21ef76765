"""The parts of a training run that differ between classification and segmentation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from volo.data import Preprocessing, Samples
from volo.evaluation.classification import Evaluation
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.models import VOLO, SegmentationModel
from volo.tasks.task import Task
from volo.training.config import TrainConfig
from volo.training.datamodule import RunData
from volo.training.run_images import RunImages

Evaluated = Evaluation | SegmentationEvaluation
EvaluatedT = TypeVar("EvaluatedT", Evaluation, SegmentationEvaluation)


class Job(ABC):
    """The images and the model of a run, and how the model is saved and evaluated.

    :class:`volo.training.run.Run` does everything that is the same for all tasks.

    Attributes:
        config: the whole configuration of the run.
        images: training images.
        val_images: validation images.
        model: the model to train, with its initial weights.
        preprocessing: size and normalization of the images.
        run_images: the identity of the images, if the run keeps it.
    """

    config: TrainConfig
    images: Any
    val_images: Any
    model: VOLO | SegmentationModel
    preprocessing: Preprocessing
    run_images: RunImages | None = None

    @abstractmethod
    def __init__(self, config: TrainConfig, images: tuple[Any, Any] | None) -> None:
        """Open and check the images, and build the model.

        Args:
            config: the whole configuration of the run.
            images: training and validation images; None opens those that ``config`` names.

        Raises:
            ValueError: The configuration or the data cannot be used; the message gives the reason.
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the model's outputs."""
        names: tuple[str, ...] = self.images.class_names
        return names

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the model, as it is printed."""

    @property
    def pixels(self) -> str:
        """The size of the training images in pixels: the side of a square, or height and width as ``512x1024``."""
        height, width = self.preprocessing.size
        return str(height) if height == width else f"{height}x{width}"

    @abstractmethod
    def train_set(self) -> Samples:
        """Return the augmented training images, which the keys of an ``EpochSampler`` index."""

    @abstractmethod
    def val_set(self) -> Samples:
        """Return the validation images, which integers index."""

    def balanced_labels(self) -> Sequence[int] | None:
        """Return the class of every training image if all classes are to be drawn equally often, else None."""
        return None

    def warnings(self) -> list[str]:
        """Return warnings about the data, to print before the training begins."""
        return []

    def unreadable_classes(self) -> list[str]:
        """Return the classes of which not one training image can be read, as far as images have classes."""
        return []

    @abstractmethod
    def make_task(self, data: RunData) -> Task:
        """Return the Lightning module that trains the model on ``data``."""

    @abstractmethod
    def save_model(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Save ``weights``, a state dict of the model, and the description of the model into ``folder``."""

    @abstractmethod
    def evaluate(self, folder: Path, rows: Sequence[dict[str, float]], *, workers: int) -> Evaluated:
        """Evaluate the model saved in ``folder`` on the validation images, and write scores and pictures there.

        Args:
            folder: the run folder.
            rows: the rows of ``metrics.csv``, one for each epoch.
            workers: number of processes that decode images.
        """


def count_trained_on(evaluation: EvaluatedT, images: RunImages | None) -> EvaluatedT:
    """Return an evaluation of a run's validation images with the number of those that are training images, too."""
    if images is None:
        return evaluation
    trained_on = np.isin(images.val, images.train)[evaluation.indices]
    return replace(evaluation, trained_on=int(trained_on.sum()))


def training_summary(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the entries of ``results.json`` about the training: its number of epochs and its seconds."""
    return {"epochs": len(rows), "seconds": round(sum(row["seconds"] for row in rows), 1)}
