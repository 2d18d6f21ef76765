"""The segmentation job: data, model, saving and evaluation of a run that trains a segmentation model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from volo.data import (
    IGNORE,
    MaskedImages,
    SegmentationEvalSet,
    SegmentationTrainSet,
    SegmentationTransform,
    inspect_masks,
    open_data,
    with_channels,
)
from volo.evaluation.report import write_evaluation
from volo.evaluation.segmentation import SegmentationEvaluation, evaluate_segmentation
from volo.inference.segmenter import Segmenter
from volo.models import SegmentationModel, create_segmenter, save_segmenter
from volo.models.pyramid import STRIDES
from volo.tasks.segmentation import SegmentationTask
from volo.training.assemble import make_optimizer_factory, make_preprocessing, seeded_weights
from volo.training.config import TrainConfig
from volo.training.datamodule import RunData
from volo.training.job import Job, count_trained_on, training_summary


class SegmentationJob(Job):
    """Images with masks, and a VOLO with a decoder; see :class:`Job`."""

    images: MaskedImages
    val_images: MaskedImages
    model: SegmentationModel

    def __init__(self, config: TrainConfig, images: tuple[MaskedImages, MaskedImages] | None) -> None:
        self.config, data, settings = config, config.data, config.segmentation
        images = images or open_data(
            data.path, task="segmentation", val_fraction=data.val_fraction, seed=config.seed, source=data
        )
        channels = data.channels or images[0].channels
        self.images, self.val_images = (with_channels(part, channels, data.background) for part in images)
        if self.val_images.class_names != self.class_names:
            raise ValueError(f"the training and validation images of {data.path} have different classes")
        self._warnings = inspect_masks(self.images, data.path)
        self._warnings += inspect_masks(self.val_images, f"{data.path}, validation")
        height, width = (side + -side % STRIDES[-1] for side in settings.crop)  # the size to which the model pads crops
        with seeded_weights(config.seed):
            self.model = create_segmenter(
                config.model.name,
                num_classes=len(self.class_names),
                decoder=settings.decoder,
                decoder_channels=settings.decoder_channels,
                img_size=(height, width),
                in_chans=channels,
                **config.model.overrides(),
            )
        self.preprocessing = make_preprocessing(settings.crop, channels, 1.0, data.background)

    @property
    def name(self) -> str:
        return f"{self.config.model.name} with {self.config.segmentation.decoder}"

    def train_set(self) -> SegmentationTrainSet:
        settings, preprocessing = self.config.segmentation, self.preprocessing
        transform = SegmentationTransform(settings.augment, size=settings.crop, mean=preprocessing.mean)
        return SegmentationTrainSet(self.images, transform, self.config.seed)

    def val_set(self) -> SegmentationEvalSet:
        return SegmentationEvalSet(self.val_images)

    def warnings(self) -> list[str]:
        return self._warnings

    def make_task(self, data: RunData) -> SegmentationTask:
        config = self.config
        return SegmentationTask(
            self.model,
            preprocessing=self.preprocessing,
            aux_weight=config.segmentation.aux_weight,
            short_side=config.segmentation.augment.short_side,
            seed=config.seed,
            configure=make_optimizer_factory(config, data),
        )

    def save_model(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        save_segmenter(
            folder,
            self.model.config,
            weights,
            class_names=self.class_names,
            class_colors=self.images.classes.colors,
            ignore_index=IGNORE,
            preprocessing=asdict(self.preprocessing),
            short_side=self.config.segmentation.augment.short_side,
        )

    def evaluate(self, folder: Path, rows: Sequence[dict[str, float]], *, workers: int) -> SegmentationEvaluation:
        evaluation = evaluate_segmentation(Segmenter(folder), self.val_images, workers=workers)
        evaluation = count_trained_on(evaluation, self.run_images)
        write_evaluation(evaluation, self.val_images, folder, more=training_summary(rows))
        return evaluation
