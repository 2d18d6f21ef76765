"""A run in small: two training batches and one of validation go all the way, and nothing is kept."""

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

from volo.data import ImageSet, MaskedImages, open_data, open_masked_data
from volo.data.images import Shrink
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT
from volo.training.config import TrainConfig
from volo.training.fake_data import KNOWN, GeneratedImages, generated_pairs
from volo.training.run import Run


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a dry run measured, and what the whole run would take.

    Attributes:
        step_seconds: of a training batch that is loaded already: transfer, forward, backward, optimizer, EMA.
        loading_seconds: of one training image, decoded and augmented by one process.
        val_seconds: of a batch of validation.
        epoch_seconds: estimated for a whole epoch, validation included.
        run_seconds: estimated for all epochs.
        memory: bytes at the peak: of the accelerator's memory, or of this process's where it trains on the CPU.
        checkpoint: bytes of one checkpoint; a run keeps two.
    """

    step_seconds: float
    loading_seconds: float
    val_seconds: float
    epoch_seconds: float
    run_seconds: float
    memory: int
    checkpoint: int


def dry_run(config: TrainConfig, *, console: Console | None = None) -> DryRun:
    """Do two training batches and one of validation of everything, in a temporary folder, and estimate the rest.

    Where the data set of a recipe is not at hand, generated images stand in; for token labels that are not, the
    images' own labels; for weights that are in no local file, fresh ones: nothing is fetched.

    Raises:
        ValueError: the configuration or the data cannot be used; the message says why.
    """
    if console is None or rank_zero_only.rank:  # type: ignore[attr-defined]  # the first process speaks for all
        console = Console(quiet=True)
    config = _with_what_is_here(replace(config, loggers=()), console)
    with tempfile.TemporaryDirectory(prefix="volo-dry-run-") as name:
        images = _images(config, Path(name), console)
        watch = _Stopwatch()
        run = Run(
            config,
            Path(name),
            Console(quiet=True),
            images=images,
            callbacks=[watch],
            max_epochs=1,
            limit_train_batches=2,
            limit_val_batches=1,
        )
        _say(console, f"{run.description()}; a dry run, nothing is kept")
        run.job.val_images = _first(run.job.val_images, config.batch_size)
        (run.folder / LAST_CHECKPOINT).parent.mkdir()
        run.fit(checkpoint=None)
        result = _estimate(run, watch)
    _say(console, _report(config, result, run))
    return result


def _images(config: TrainConfig, folder: Path, console: Console) -> tuple[Any, Any]:
    """The images that are named; where the data set of a recipe is missing, generated ones, in ``folder`` if in files.

    Whether an image has a class or a mask is for the task.
    """
    path, data = config.data.path, config.data
    size = KNOWN.get(Path(path).name if path else "")
    segments = config.task == "segmentation"
    try:
        opened = open_masked_data if segments else open_data
        return opened(path, val_fraction=data.val_fraction, seed=config.seed, source=data)
    except ValueError:
        if size is None or (path and Path(path).exists()):
            raise
    _say(
        console,
        f"{f'{path} is not here' if path else 'no folder was named'}: generated images stand in, "
        f"{size.train:,} for training and {size.val:,} for validation, of {size.pixels[0]}x{size.pixels[1]} pixels and "
        f"{size.classes:,} classes" + ("" if segments else "; the times leave decoding out"),
    )
    if segments:
        return generated_pairs(size, folder)
    return GeneratedImages(size, size.train), GeneratedImages(size, size.val)


def _with_what_is_here(config: TrainConfig, console: Console) -> TrainConfig:
    """The configuration without weights and token labels that are not on this machine."""
    weights, labels = config.model.pretrained, config.data.token_labels
    if config.sync_batchnorm and not torch.cuda.is_available():
        _say(console, "there are no GPUs here: every process normalizes over its own batch")
        config = replace(config, sync_batchnorm=False)
    if weights is not None and not Path(weights).exists():
        _say(console, f"the weights {weights} are not fetched: fresh ones stand in")
        config = replace(config, model=replace(config.model, pretrained=None))
    if labels is not None and not Path(labels).exists():
        _say(console, f"there are no token labels {labels}: each token takes the label of its image")
        loss = replace(config.loss, ground_truth=False, legacy_crop=False)
        config = replace(config, loss=loss, data=replace(config.data, token_labels=None))
    return config


def _first(images: Any, count: int) -> Any:
    """The first images of a set."""
    return images.taking(range(min(count, len(images)))) if isinstance(images, MaskedImages) else _First(images, count)


class _First:
    """The first images of another set."""

    def __init__(self, images: ImageSet, count: int) -> None:
        self.images, self.channels, self.class_names = images, images.channels, images.class_names
        self.labels = images.labels[:count]

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return self.images.read(index, shrink)


class _Stopwatch(Callback):
    """Seconds of the last training batch and of the validation batch, each once the device is done with it."""

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


def _estimate(run: Run, watch: _Stopwatch) -> DryRun:
    config, data = run.config, run.data
    count = min(8, len(data.train))
    started = time.perf_counter()
    for index in range(count):
        data.train[0, index]
    loading = (time.perf_counter() - started) / count
    # Processes load while this one computes; without any, the one follows the other.
    batch = loading * config.batch_size
    each = max(watch.step, batch / run.workers) if run.workers else watch.step + batch
    val_batches = math.ceil(len(data.val) / run.trainer.world_size / config.batch_size)
    epoch = each * data.batches_per_epoch + watch.val * val_batches
    return DryRun(
        step_seconds=watch.step,
        loading_seconds=loading,
        val_seconds=watch.val,
        epoch_seconds=epoch,
        run_seconds=epoch * config.epochs,
        memory=_peak_memory(run.trainer),
        checkpoint=(run.folder / LAST_CHECKPOINT).stat().st_size if run.trainer.is_global_zero else 0,
    )


def _peak_memory(trainer: pl.Trainer) -> int:
    """Bytes: of the accelerator's memory, or of this process's on a CPU (0 where the system does not tell)."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _report(config: TrainConfig, result: DryRun, run: Run) -> str:
    device = run.trainer.strategy.root_device.type
    return (
        f"peak memory {_gigabytes(result.memory)} on {device}, a checkpoint {_gigabytes(result.checkpoint)}; "
        f"a batch of {config.batch_size} takes {result.step_seconds:.3g} s, loading an image "
        f"{1000 * result.loading_seconds:.3g} ms ({run.workers} processes load); an epoch about "
        f"{_duration(result.epoch_seconds)}, all {config.epochs} about {_duration(result.run_seconds)} "
        "(from one batch each: rough)"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
