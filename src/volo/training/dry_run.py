"""A dry run: two training batches and one validation batch in a temporary folder, to estimate time and memory."""

import math
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from volo.data import ImageSet, MaskedImages, open_data
from volo.data.images import Shrink
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT
from volo.training.config import TrainConfig
from volo.training.fake_data import DATA_SIZES, GeneratedImages, make_masked_images
from volo.training.run import Run


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Measurements of a dry run, and estimates for the whole run.

    Attributes:
        step_seconds: seconds of one training batch without its loading: transfer, forward, backward, optimizer, EMA.
        loading_seconds: seconds to decode and augment one training image in one process.
        val_seconds: seconds of one validation batch.
        epoch_seconds: estimated seconds of an epoch, validation included.
        run_seconds: estimated seconds of all epochs.
        memory: peak memory in bytes: the accelerator's, or this process's on a CPU (0 if it is not known).
        checkpoint: size of one checkpoint in bytes; a run keeps two. 0 in every process but the first.
    """

    step_seconds: float
    loading_seconds: float
    val_seconds: float
    epoch_seconds: float
    run_seconds: float
    memory: int
    checkpoint: int


def dry_run(config: TrainConfig, *, console: Console | None = None) -> DryRun:
    """Train for two batches and validate on one, in a temporary folder, and estimate the whole run.

    Nothing is downloaded. Generated images replace a recipe's data set that is not available, the images' own labels
    replace token labels that do not exist, and random weights replace pretrained weights that are not a local file.

    Args:
        config: the whole configuration of the run.
        console: console for reports; None prints nothing.

    Raises:
        ValueError: The configuration or the data cannot be used; the message gives the reason.
    """
    if console is None or rank_zero_only.rank:  # type: ignore[attr-defined]  # only the first process reports
        console = Console(quiet=True)
    config = _replace_unavailable(replace(config, loggers=()), console)
    with tempfile.TemporaryDirectory(prefix="volo-dry-run-") as name:
        images = _images(config, Path(name), console)
        stopwatch = _Stopwatch()
        run = Run(
            config,
            Path(name),
            Console(quiet=True),
            images=images,
            callbacks=[stopwatch],
            max_epochs=1,
            limit_train_batches=2,
            limit_val_batches=1,
        )
        _print(console, f"{run.description()}; a dry run, nothing is kept")
        run.job.val_images = _first(run.job.val_images, run.data.batch_size)
        (run.folder / LAST_CHECKPOINT).parent.mkdir()
        run.fit(checkpoint=None)
        result = _estimate(run, stopwatch)
    _print(console, _report(result, run))
    return result


def _images(config: TrainConfig, folder: Path, console: Console) -> tuple[Any, Any]:
    """Open the images, or generate them if the data set of a recipe is not available.

    Generated masks are written into ``folder``; generated images with classes exist in memory only.

    Raises:
        ValueError: The images cannot be opened, and their path names no known data set.
    """
    path, data = config.data.path, config.data
    size = DATA_SIZES.get(Path(path).name if path else "")
    segments = config.task == "segmentation"
    try:
        return open_data(path, task=config.task, val_fraction=data.val_fraction, seed=config.seed, source=data)
    except ValueError:
        if size is None or (path and Path(path).exists()):
            raise
    _print(
        console,
        f"{f'{path} is not available' if path else 'no folder was given'}: generated images are used instead, "
        f"{size.train:,} for training and {size.val:,} for validation, of {size.pixels[0]}x{size.pixels[1]} pixels and "
        f"{size.classes:,} classes" + ("" if segments else "; the times do not include decoding"),
    )
    if segments:
        return make_masked_images(size, folder)
    return GeneratedImages(size, size.train), GeneratedImages(size, size.val)


def _replace_unavailable(config: TrainConfig, console: Console) -> TrainConfig:
    """Return the configuration without GPU settings, weights and token labels that are not available here."""
    weights, labels = config.model.pretrained, config.data.token_labels
    if config.sync_batchnorm and not torch.cuda.is_available():
        _print(console, "no GPU is available: every process normalizes over its own batch")
        config = replace(config, sync_batchnorm=False)
    if weights is not None and not Path(weights).exists():
        _print(console, f"the weights {weights} are not downloaded: random weights are used instead")
        config = replace(config, model=replace(config.model, pretrained=None))
    if labels is not None and not Path(labels).exists():
        _print(console, f"the token labels {labels} do not exist: each token takes the label of its image")
        loss = replace(config.loss, ground_truth=False, legacy_crop=False)
        config = replace(config, loss=loss, data=replace(config.data, token_labels=None))
    return config


def _first(images: Any, count: int) -> Any:
    """Return the first ``count`` images of a set, or all if there are fewer."""
    return images.taking(range(min(count, len(images)))) if isinstance(images, MaskedImages) else _First(images, count)


class _First:
    """The first ``count`` images of another set."""

    def __init__(self, images: ImageSet, count: int) -> None:
        self.images, self.channels, self.class_names = images, images.channels, images.class_names
        self.labels = images.labels[:count]

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return self.images.read(index, shrink)


class _Stopwatch(Callback):
    """Measure the seconds of the last training batch and of the validation batch, until the device has finished."""

    def __init__(self) -> None:
        self.step = self.val = self._started = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._started = _now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.step = _now() - self._started

    def on_validation_batch_start(self, *_: Any) -> None:
        self._started = _now()

    def on_validation_batch_end(self, *_: Any) -> None:
        self.val = _now() - self._started


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _estimate(run: Run, stopwatch: _Stopwatch) -> DryRun:
    config, data = run.config, run.data
    count = min(8, len(data.train))
    started = time.perf_counter()
    for index in range(count):
        data.train[0, index]
    loading = (time.perf_counter() - started) / count
    # Worker processes load images while this process computes; without workers, loading and computing alternate.
    batch = loading * data.batch_size
    each = max(stopwatch.step, batch / run.workers) if run.workers else stopwatch.step + batch
    val_batches = math.ceil(len(data.val) / run.trainer.world_size / data.batch_size)
    epoch = each * data.batches_per_epoch + stopwatch.val * val_batches
    return DryRun(
        step_seconds=stopwatch.step,
        loading_seconds=loading,
        val_seconds=stopwatch.val,
        epoch_seconds=epoch,
        run_seconds=epoch * config.epochs,
        memory=_peak_memory(run.trainer),
        checkpoint=(run.folder / LAST_CHECKPOINT).stat().st_size if run.trainer.is_global_zero else 0,
    )


def _peak_memory(trainer: pl.Trainer) -> int:
    """Return the peak memory in bytes: the GPU's, or this process's (0 if the system does not report it)."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _report(result: DryRun, run: Run) -> str:
    device = run.trainer.strategy.root_device.type
    return (
        f"peak memory {_gigabytes(result.memory)} on {device}, a checkpoint {_gigabytes(result.checkpoint)}; "
        f"a batch of {run.data.batch_size} takes {result.step_seconds:.3g} s, loading an image "
        f"{1000 * result.loading_seconds:.3g} ms ({run.workers} processes load); an epoch about "
        f"{_duration(result.epoch_seconds)}, all {run.config.epochs} about {_duration(result.run_seconds)} "
        "(rough, estimated from one batch each)"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
