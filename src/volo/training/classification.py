"""The classification job: data, model, saving and evaluation of a run that trains a classifier."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from volo.data import (
    EvalImages,
    ImageError,
    ImageSet,
    TrainImages,
    TrainTransform,
    class_counts,
    class_weights,
    imbalance_warning,
    open_data,
    open_token_labels,
    with_channels,
)
from volo.data.class_names import doubtful_names
from volo.data.find import subfolders
from volo.evaluation.classification import Evaluation, evaluate
from volo.evaluation.report import write_evaluation
from volo.inference import Predictor
from volo.messages import printable
from volo.models import VOLO, create_model, save_model
from volo.models.weights.load import usual_crop
from volo.tasks.classification import ClassificationTask
from volo.training.assemble import make_optimizer_factory, make_preprocessing, seeded_weights
from volo.training.config import TrainConfig
from volo.training.datamodule import RunData
from volo.training.job import Job, count_trained_on, training_summary
from volo.training.reports.summary import draw_summary


class ClassificationJob(Job):
    """Images with classes, and a VOLO with two heads; see :class:`Job`."""

    model: VOLO

    def __init__(self, config: TrainConfig, images: tuple[ImageSet, ImageSet] | None) -> None:
        self.config, data = config, config.data
        images = images or open_data(data.path, val_fraction=data.val_fraction, seed=config.seed, source=data)
        names = images[0].class_names
        if len(names) < 2:
            folders = subfolders(Path(data.path)) if Path(data.path).is_dir() else []
            wrapped = len(folders) == 1 and len(subfolders(folders[0])) > 1
            advice = f"; if the folders in it are the classes, give {printable(folders[0])}" if wrapped else ""
            raise ValueError(f"{data.path} has only one class, {names[0]!r}; a classifier needs at least two{advice}")
        channels = data.channels or images[0].channels
        self.images, self.val_images = (with_channels(part, channels, data.background) for part in images)
        self.counts = class_counts(self.images.labels, len(names))
        with seeded_weights(config.seed):
            self.model = create_model(
                config.model.name, class_names=names, in_chans=channels, **config.model.overrides()
            )
        size = self.model.config.img_size
        crop = usual_crop(size) if data.crop_pct is None else data.crop_pct
        self.preprocessing = make_preprocessing(size, channels, crop, data.background)

    @property
    def name(self) -> str:
        return self.config.model.name

    def train_set(self) -> TrainImages:
        config, labels = self.config, self.config.data.token_labels
        return TrainImages(
            self.images,
            TrainTransform(config.augment, self.preprocessing),
            config.seed,
            open_token_labels(labels, self.images, config.data.path) if labels else None,
        )

    def val_set(self) -> EvalImages:
        return EvalImages(self.val_images, self.preprocessing.pixels)

    def balanced_labels(self) -> Sequence[int] | None:
        return self.images.labels if self.config.data.balanced else None

    def warnings(self) -> list[str]:
        doubts = doubtful_names(self.class_names, int(self.counts.sum()))
        warning = imbalance_warning(self.counts, self.class_names)
        if not warning or self.config.data.balanced or self.config.loss.class_balance != "none":
            return doubts
        return [
            *doubts,
            f"{warning}; --data.balanced true draws all classes equally often, --loss.class-balance effective gives "
            "rare classes more weight in the loss",
        ]

    def unreadable_classes(self) -> list[str]:
        readable = set()
        for index, label in enumerate(self.images.labels):
            if label not in readable:
                with suppress(ImageError):
                    self.images.read(index)
                    readable.add(label)
        return [name for label, name in enumerate(self.class_names) if label not in readable]

    def make_task(self, data: RunData) -> ClassificationTask:
        config = self.config
        weights = class_weights(self.counts, config.loss.class_balance, config.loss.balance_beta)
        return ClassificationTask(
            self.model,
            preprocessing=self.preprocessing,
            loss=config.loss,
            erasing=config.augment.erasing,
            seed=config.seed,
            configure=make_optimizer_factory(config, data),
            class_weights=None if weights is None else torch.from_numpy(weights),
        )

    def save_model(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        preprocessing = asdict(self.preprocessing)
        save_model(folder, self.model.config, weights, class_names=self.class_names, preprocessing=preprocessing)

    def evaluate(self, folder: Path, rows: Sequence[dict[str, float]], *, workers: int) -> Evaluation:
        batch_size = self.config.batch_size
        assert batch_size is not None  # the run has adapted it to the images
        evaluation = evaluate(Predictor(folder), self.val_images, batch_size=batch_size, workers=workers)
        evaluation = count_trained_on(evaluation, self.run_images)
        draw_summary(rows, evaluation, self.val_images, folder / "summary.png")
        write_evaluation(evaluation, self.val_images, folder, more=training_summary(rows))
        return evaluation
