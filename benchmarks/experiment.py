"""Training runs of an experiment: of equal time, by the engine of ``volo train``, gone on with where they stopped."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from first_stage import count
from machine import machine
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from volo.files import atomic_write, remove_temporaries
from volo.training.assemble import silence_libraries
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT
from volo.training.config import TrainConfig
from volo.training.run import Run

#: In a run's folder: what it was begun with, and what came of it once it has ended.
BEGUN, RESULT = "experiment.json", "result.json"
#: Beside the runs of a table: CPU seconds of an epoch of each variant.
TIMES = "times.json"
#: How an epoch is timed: in turns, each of so many batches after the first ones.
TURNS, BATCHES, WARMUP = 3, 12, 3

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is compared with others.

    Attributes:
        key: of folders and JSON.
        name: of tables.
        place: in the table; the lower, the higher up.
        config: everything that decides the run but for ``change``.
        change: puts something else in the place of a part of the run.
    """

    key: str
    name: str
    place: int = 0
    config: TrainConfig
    change: Callable[[Run], None] = lambda run: None

    def of(self, epochs: int, seed: int) -> "Variant":
        """Return the variant with another number of epochs, the same share of warm-up, and another seed."""
        warmup = self.config.optim.warmup_epochs * epochs / self.config.epochs
        optim = replace(self.config.optim, warmup_epochs=warmup)
        return replace(self, config=replace(self.config, epochs=epochs, seed=seed, optim=optim))


class CpuTime(Callback):
    """Seconds of this process's CPU time in every epoch, loading and augmenting included, validation apart.

    Attributes:
        rows: ``cpu_seconds`` and ``val_cpu_seconds`` of every epoch done.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._started = self._before = self._validation = self._validation_started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.process_time()  # a resumed epoch has no other start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._before, self._validation = time.process_time(), 0.0, 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_started = time.process_time()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation += time.process_time() - self._validation_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows.append({"cpu_seconds": self._seconds() - self._validation, "val_cpu_seconds": self._validation})

    def _seconds(self) -> float:
        return self._before + time.process_time() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "before": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._before = state_dict["rows"], state_dict["before"]


class BatchTimes(Callback):
    """The CPU time at the end of every training batch.

    Attributes:
        ends: seconds.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.process_time())


def train_table(
    folder: Path, variants: Sequence[Variant], *, seeds: int, seconds: float | None, console: Console
) -> None:
    """Train every variant with every seed, each for whole epochs of about the same CPU time.

    Args:
        folder: of the table; a run's is ``<key>-<seed>`` in it.
        variants: to compare.
        seeds: of each.
        seconds: of CPU time for each run; None takes what the epochs of the first variant's configuration need.
        console: where to report.
    """
    times = epoch_times(folder, variants, console)
    first = variants[0]
    seconds = first.config.epochs * times[first.key] if seconds is None else seconds
    for seed in range(seeds):
        for variant in variants:
            epochs = whole_epochs(seconds, times[variant.key])
            train_variant(variant.of(epochs, seed), folder / f"{variant.key}-{seed}", console)


def whole_epochs(seconds: float, each: float) -> int:
    """How many epochs of ``each`` seconds come nearest to ``seconds``; at least one."""
    return max(1, round(seconds / each))


def epoch_times(folder: Path, variants: Sequence[Variant], console: Console) -> dict[str, float]:
    """CPU seconds of a training epoch of each, measured in turns; once measured, they stay in ``folder``."""
    path = folder / TIMES
    times = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = [variant for variant in variants if variant.key not in times]
    turns = [[_epoch_time(variant) for variant in missing] for _ in range(TURNS)]
    for variant, measured in zip(missing, zip(*turns, strict=True), strict=True):
        times[variant.key] = statistics.median(measured)
        console.print(f"{variant.name}: an epoch takes {times[variant.key]:.1f} s of CPU time", highlight=False)
    write(path, times)
    return times


def _epoch_time(variant: Variant) -> float:
    batches = BatchTimes()
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_epochs": 1, "limit_train_batches": WARMUP + BATCHES, "limit_val_batches": 1}
        run = Run(variant.config, Path(folder), Console(quiet=True), callbacks=[batches], **limits)
        variant.change(run)
        with silence_libraries():
            run.trainer.fit(run.task, datamodule=run.data)
    each = [end - start for start, end in zip(batches.ends, batches.ends[1:], strict=False)]
    return statistics.median(each[-BATCHES:]) * run.data.batches_per_epoch


def train_variant(variant: Variant, folder: Path, console: Console) -> Result:
    """Train it, or go on with it, or give what came of it before.

    Returns:
        See :func:`outcome`.

    Raises:
        ValueError: the run in ``folder`` was begun with other settings.
        volo.training.callbacks.checkpoints.Interrupted: a signal stopped it; the next call resumes it.
    """
    _begin(variant, folder)
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    for place in (folder, folder / LAST_CHECKPOINT.parent):
        remove_temporaries(place)
    cpu = CpuTime()
    run = Run(variant.config, folder, console, callbacks=[cpu])
    variant.change(run)
    parameters = count(run.task.model)
    checkpoint = folder / LAST_CHECKPOINT if (folder / LAST_CHECKPOINT).exists() else None
    console.print(
        f"{variant.name}, seed {variant.config.seed}: {parameters / 1e6:.2f} M parameters, {variant.config.epochs} "
        f"epochs; {'going on' if checkpoint else 'beginning'} in {folder}",
        highlight=False,
        soft_wrap=True,
    )
    with run.lock(), silence_libraries():
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    result = outcome(
        variant,
        parameters=parameters,
        images=[len(run.data.train), len(run.data.val)],
        epochs=[{**figures, **seconds} for figures, seconds in zip(run.record.rows, cpu.rows, strict=True)],
    )
    write(folder / RESULT, result)
    return result


def outcome(variant: Variant, *, parameters: int, images: Sequence[int], epochs: Sequence[dict[str, float]]) -> Result:
    """Return the result of a run as it is saved.

    Args:
        variant: the settings of the run.
        parameters: of the network.
        images: numbers of training and validation images.
        epochs: the figures of every epoch.
    """
    return {
        "key": variant.key,
        "name": variant.name,
        "place": variant.place,
        "parameters": parameters,
        "images": images,
        "epochs": epochs,
        "config": asdict(variant.config),
        "machine": machine("pytorch-lightning", "timm"),
    }


def _begin(variant: Variant, folder: Path) -> None:
    """Note what the run in ``folder`` is begun with, or see that it was begun with the same."""
    path = folder / BEGUN
    if not path.exists():
        write(path, asdict(variant.config))
        return
    different = TrainConfig.load(path).differences(asdict(variant.config))
    if different:
        listed = ", ".join(f"{name} {new!r} (the run: {old!r})" for name, (old, new) in different.items())
        raise ValueError(f"{folder} was begun with other settings: {listed}; give the same, or another --out")


def write(path: Path, values: Any) -> None:
    """JSON, whole or not at all, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
