"""The parts that runs of both tasks share: initial weights, preprocessing, EMA, optimizer, trainer."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from volo.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from volo.imagenet import GRAY_MEAN, GRAY_STD
from volo.logs import silenced
from volo.models import VOLO, SegmentationModel
from volo.models.segmentation import backbone_of
from volo.training.callbacks.checkpoints import WholeCheckpointIO
from volo.training.callbacks.loggers import make_loggers
from volo.training.config import LIGHTNING_PRECISIONS, OptimConfig, TrainConfig
from volo.training.datamodule import RunData
from volo.training.distributed import make_strategy, started_processes
from volo.training.optim import configure_optimizers, freeze_backbone

#: Channels → mean and standard deviation of values in 0–1. Those of gray and color are ImageNet's; the fourth channel,
#: opacity, is scaled to -1–1.
_STATISTICS: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    1: (GRAY_MEAN, GRAY_STD),
    3: (IMAGENET_MEAN, IMAGENET_STD),
    4: ((*IMAGENET_MEAN, 0.5), (*IMAGENET_STD, 0.5)),
}


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Draw initial weights from ``seed`` alone; PyTorch's random state is restored afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def make_preprocessing(size: tuple[int, int], channels: int, crop_pct: float, background: str) -> Preprocessing:
    """Return the preprocessing of images of ``size`` (height, width), with ImageNet's mean and standard deviation."""
    mean, std = _STATISTICS[channels]
    return Preprocessing(size=size, crop_pct=crop_pct, mean=mean, std=std, background=background)


def make_ema_callback(config: OptimConfig) -> list[Callback]:
    """Return the callback that keeps a moving average of the weights, or none if ``ema_decay`` is 0."""
    if not config.ema_decay:
        return []
    # Update all weights in one call: one by one, as in EMAWeightAveraging, the update takes as long as a small layer.
    return [WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))]


def make_trainer(config: TrainConfig, folder: Path, callbacks: list[Callback], options: dict[str, Any]) -> pl.Trainer:
    """Return Lightning's trainer for the run in ``folder``.

    Args:
        config: the whole configuration of the run.
        folder: the run folder.
        callbacks: all callbacks of the run.
        options: further arguments of ``Trainer``; ``max_epochs`` among them replaces the configured epochs.

    Raises:
        ValueError: The devices, the strategy or a logger cannot be used; the message gives the reason.
    """
    devices, nodes = started_processes(config.devices, config.nodes)
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=make_strategy(config.strategy),
            precision=LIGHTNING_PRECISIONS[config.precision],  # type: ignore[arg-type]  # checked by Lightning
            accumulate_grad_batches=config.accumulate,
            sync_batchnorm=config.sync_batchnorm,
            callbacks=callbacks,
            plugins=[WholeCheckpointIO()],
            logger=make_loggers(config.loggers, folder),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **{"max_epochs": config.epochs, **options},
        )
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(str(error)) from error


def make_optimizer_factory(config: TrainConfig, data: RunData) -> Callable[[Any], dict[str, Any]]:
    """Return a function that makes the optimizer and the schedule of a model that trains on ``data``."""

    def configure(model: VOLO | SegmentationModel) -> dict[str, Any]:
        return configure_optimizers(
            model,
            config.optim,
            epochs=config.epochs,
            steps_per_epoch=data.steps_per_epoch,
            global_batch=data.global_batch,
        )

    return configure


def prepare_model(config: TrainConfig, model: VOLO | SegmentationModel) -> None:
    """Apply the configuration to a new model: gradient checkpointing, frozen weights, memory layout, compilation."""
    volo = backbone_of(model)
    volo.set_grad_checkpointing(config.model.grad_checkpointing)
    if config.model.freeze:
        freeze_backbone(model)
    # Convolutions on the CPU and on tensor cores are faster with channels-last weights and feature maps.
    model.to(memory_format=torch.channels_last)
    if config.compile:
        # Compiling block by block keeps the names of the weights, and equal blocks share the compiled code.
        for group in (volo.network[0], *volo.network[2:]):
            for block in group.children():
                block.compile()


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hide warnings and log lines of Lightning and timm that are meant for developers."""
    with silenced("pytorch_lightning", "lightning_fabric", "timm"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported.*")  # check_device refuses it
        warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")  # warn_about_workers
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # model.freeze
        # Workers are started anew for every epoch, whose sampler they hold.
        warnings.filterwarnings("ignore", message=".*persistent_workers=True.*")
        # RunData resumes in the middle of an epoch without Lightning's protocol for it.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # no metrics go that way
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # a deprecated use in Lightning
        yield
