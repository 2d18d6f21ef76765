"""What a run is put together from: its model, preprocessing and task, and Lightning's trainer."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from volo.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, class_weights
from volo.models import VOLO, VOLOConfig, create_model
from volo.models.loading import GREY_MEAN, GREY_STD, usual_crop
from volo.tasks.classification import ClassificationTask
from volo.training.checkpoints import WholeCheckpointIO
from volo.training.cluster import make_strategy, started_processes
from volo.training.config import DataConfig, OptimConfig, TrainConfig
from volo.training.data import RunData
from volo.training.loggers import make_loggers
from volo.training.optim import configure_optimizers, freeze_backbone

#: Channels → mean and standard deviation, values in 0–1: of ImageNet's photos, also turned grey; a fourth channel is
#: opacity, which is brought to -1–1.
_STATISTICS: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    1: (GREY_MEAN, GREY_STD),
    3: (IMAGENET_MEAN, IMAGENET_STD),
    4: ((*IMAGENET_MEAN, 0.5), (*IMAGENET_STD, 0.5)),
}


def make_model(config: TrainConfig, *, class_names: Sequence[str], in_chans: int) -> VOLO:
    """The model that the configuration names, its first weights drawn from the seed; PyTorch's draws stay as they were.

    Raises:
        ValueError: there is no such model, or the weights to begin with do not fit.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = create_model(config.model.name, class_names=class_names, in_chans=in_chans, **config.model.overrides())
    model.set_grad_checkpointing(config.model.grad_checkpointing)
    if config.model.freeze:
        freeze_backbone(model)
    return model


def make_preprocessing(architecture: VOLOConfig, data: DataConfig) -> Preprocessing:
    """ImageNet's mean and deviation; the paper's centre crop for photos, the whole image where there are few pixels."""
    mean, std = _STATISTICS[architecture.in_chans]
    return Preprocessing(
        size=architecture.img_size,
        crop_pct=usual_crop(architecture.img_size) if data.crop_pct is None else data.crop_pct,
        mean=mean,
        std=std,
        background=data.background,
    )


def averaging(config: OptimConfig) -> list[Callback]:
    """What keeps an average of the weights, where one is asked for."""
    if not config.ema_decay:
        return []
    # All weights in one call: one by one, as EMAWeightAveraging does it, they take as long as a small layer.
    return [WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))]


def make_trainer(config: TrainConfig, folder: Path, callbacks: list[Callback], options: dict[str, Any]) -> pl.Trainer:
    """Lightning's trainer for the run in ``folder``; ``options`` are more of its arguments, or others.

    Raises:
        ValueError: the devices, the strategy or a logger cannot be used; the message says why.
    """
    devices, nodes = started_processes(config.devices, config.nodes)
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=make_strategy(config.strategy),
            precision=config.precision,  # type: ignore[arg-type]  # checked by Lightning
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


def make_task(
    config: TrainConfig, model: VOLO, preprocessing: Preprocessing, counts: np.ndarray, data: RunData
) -> ClassificationTask:
    """What is learned by ``model`` on ``data``, whose classes have ``counts`` images."""

    def configure(model: VOLO) -> dict[str, Any]:
        return configure_optimizers(
            model,
            config.optim,
            epochs=config.epochs,
            steps_per_epoch=data.steps_per_epoch,
            global_batch=data.global_batch,
        )

    if config.compile:
        # Block by block: it leaves the names of the weights alone, and equal blocks share what was compiled.
        for group in (model.network[0], *model.network[2:]):
            for block in group.children():
                block.compile()
    weights = class_weights(counts, config.loss.class_balance, config.loss.balance_beta)
    # Convolutions on the CPU and on tensor cores run faster on channels-last weights and maps.
    return ClassificationTask(
        model.to(memory_format=torch.channels_last),
        preprocessing=preprocessing,
        loss=config.loss,
        erasing=config.augment.erasing,
        seed=config.seed,
        configure=configure,
        class_weights=None if weights is None else torch.from_numpy(weights),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' hints to developers from the terminal of a person who trains."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "timm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported.*")  # check_device refuses it
            warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")  # warn_of_workers says it
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # model.freeze
            # RunData finds its place in the middle of an epoch without Lightning's protocol for that.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # of figures not logged
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of PyTorch
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
