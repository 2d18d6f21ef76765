"""What a run trains and how it is judged: what differs from task to task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from volo.data import Preprocessing, Samples
from volo.evaluation.classification import Evaluation
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.models import VOLO, SegmentationModel
from volo.tasks.task import Task
from volo.training.config import TrainConfig
from volo.training.datamodule import RunData

Evaluated = Evaluation | SegmentationEvaluation


class Job(ABC):
    """The images, the model and the judging of a run; :class:`volo.training.run.Run` does the rest, for all tasks.

    Attributes:
        config: everything that decides the run.
        images: to train on.
        val_images: to judge by.
        model: what is trained, with its first weights.
        preprocessing: what is done to an image's pixels.
    """

    config: TrainConfig
    images: Any
    val_images: Any
    model: VOLO | SegmentationModel
    preprocessing: Preprocessing

    @abstractmethod
    def __init__(self, config: TrainConfig, images: tuple[Any, Any] | None) -> None:
        """Open and check the images, unless these are given, and build the model.

        Raises:
            ValueError: the configuration or the data cannot be used; the message says why.
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is learned to be told apart, in the order of the model's outputs."""
        names: tuple[str, ...] = self.images.class_names
        return names

    @property
    @abstractmethod
    def name(self) -> str:
        """What the model is called."""

    @property
    def pixels(self) -> str:
        """The size of the images that it is trained on."""
        height, width = self.preprocessing.size
        return str(height) if height == width else f"{height}x{width}"

    @abstractmethod
    def train_set(self) -> Samples:
        """Augmented training images by the keys of an ``EpochSampler``."""

    @abstractmethod
    def val_set(self) -> Samples:
        """Validation images by index."""

    def balanced_labels(self) -> Sequence[int] | None:
        """Classes of the training images, where all of them are to be drawn equally often."""
        return None

    def warnings(self) -> list[str]:
        """What a person should know of the data before the training begins."""
        return []

    @abstractmethod
    def make_task(self, data: RunData) -> Task:
        """The module that learns from ``data``."""

    @abstractmethod
    def save_model(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write ``weights``, the model's state dict, and what describes them into ``folder``."""

    @abstractmethod
    def evaluate(self, folder: Path, rows: Sequence[dict[str, float]], *, workers: int) -> Evaluated:
        """Judge what was delivered into ``folder``, and write scores and pictures beside it.

        Args:
            folder: of the run.
            rows: of ``metrics.csv``.
            workers: processes that decode.
        """


def training_summary(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What ``results.json`` says of the training: its epochs and its seconds."""
    return {"epochs": len(rows), "seconds": round(sum(row["seconds"] for row in rows), 1)}
