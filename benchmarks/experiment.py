"""One training run of an experiment: trained by the engine of ``volo train``, gone on with where it was stopped."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from machine import machine
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from volo.files import replacing
from volo.training.checkpoints import LAST_CHECKPOINT
from volo.training.config import TrainConfig
from volo.training.parts import quiet
from volo.training.run import Run

#: In a run's folder: what it was begun with, and what came of it once it has ended.
BEGUN, RESULT = "experiment.json", "result.json"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is compared with others.

    Attributes:
        key: of folders and JSON.
        name: of tables.
        config: everything that decides the run, but for ``change``.
        change: puts something else in the place of a part of the run.
    """

    key: str
    name: str
    config: TrainConfig
    change: Callable[[Run], None] = lambda run: None


class CpuTime(Callback):
    """Seconds of this process's CPU time in every epoch, loading and augmenting included, validation apart.

    Attributes:
        rows: ``cpu_seconds`` and ``val_cpu_seconds`` of every epoch done.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._started = self._before = self._validation = self._validation_started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.process_time()  # an epoch that goes on in its middle has no other start

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


def train_variant(variant: Variant, folder: Path, console: Console) -> dict[str, Any]:
    """Train it, or go on with it, or give what came of it before.

    Returns:
        ``key``, ``name``, ``config``, ``parameters``, ``machine``, and ``epochs``: a dictionary of figures for each.

    Raises:
        ValueError: the run in ``folder`` was begun with other settings.
        volo.training.checkpoints.Interrupted: a signal stopped it; the next call goes on.
    """
    _begin(variant, folder)
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    cpu = CpuTime()
    run = Run(variant.config, folder, console, callbacks=[cpu])
    variant.change(run)
    parameters = sum(parameter.numel() for parameter in run.task.model.parameters())
    checkpoint = folder / LAST_CHECKPOINT if (folder / LAST_CHECKPOINT).exists() else None
    console.print(f"{variant.name}, seed {variant.config.seed}: {parameters / 1e6:.2f} M parameters, in {folder}")
    with run.alone(), quiet():
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    result = {
        "key": variant.key,
        "name": variant.name,
        "parameters": parameters,
        "epochs": [{**figures, **seconds} for figures, seconds in zip(run.record.rows, cpu.rows, strict=True)],
        "config": asdict(variant.config),
        "machine": machine("pytorch-lightning", "timm"),
    }
    _write(folder / RESULT, result)
    return result


def _begin(variant: Variant, folder: Path) -> None:
    """Note what the run in ``folder`` is begun with, or see that it was begun with the same."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(variant.config.to_json())  # tuples become lists, as in the file
    if not (folder / BEGUN).exists():
        _write(folder / BEGUN, wanted)
    begun = TrainConfig.from_dict(json.loads((folder / BEGUN).read_text(encoding="utf-8")))
    different = begun.differences(asdict(variant.config))
    if different:
        listed = ", ".join(f"{name} {new!r} (the run: {old!r})" for name, (old, new) in different.items())
        raise ValueError(f"{folder} was begun with other settings: {listed}; give the same, or another --out")


def _write(path: Path, values: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
