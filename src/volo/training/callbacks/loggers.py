"""Lightning's loggers, which receive the metrics of a run besides ``metrics.csv``."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from volo.training.callbacks.record import Record

#: Optimizer steps between two logged losses within an epoch; each makes the GPU wait once.
STEPS_BETWEEN_LOSSES = 50


def _tensorboard(folder: Path) -> Logger:
    return TensorBoardLogger(folder, name="", version="tensorboard")


def _wandb(folder: Path) -> Logger:
    # W&B names its folders by the time and the run's id. A resumed run takes the id of the last folder, so that it
    # stays the same run in W&B.
    earlier = sorted((folder / "wandb").glob("*run-*-*"))
    version = earlier[-1].name.rpartition("-")[2] if earlier else None
    return WandbLogger(project="volo", name=folder.name, save_dir=folder, version=version, resume="allow")


def _mlflow(folder: Path) -> Logger:
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    return MLFlowLogger(experiment_name="volo", run_name=folder.name, tracking_uri=uri)


#: Name → packages of which at least one must be installed, and the function that makes the logger.
_LOGGERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Logger]]] = {
    "tensorboard": (("tensorboard", "tensorboardX"), _tensorboard),
    "wandb": (("wandb",), _wandb),
    "mlflow": (("mlflow",), _mlflow),
}


def make_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """Return the loggers with these names, for the run in ``folder``.

    Raises:
        ValueError: The package of a logger is not installed.
    """
    loggers = []
    for name in names:
        packages, make = _LOGGERS[name]
        if not any(find_spec(package) for package in packages):
            raise ValueError(f"the logger {name} needs {packages[0]}; install it with: pip install {packages[0]}")
        loggers.append(make(folder))
    return loggers


class LogFigures(Callback):
    """Log every row of the record, and the loss and the learning rate at intervals within an epoch."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if trainer.loggers and stepped and trainer.global_step % STEPS_BETWEEN_LOSSES == 0:
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
            self._log(trainer, {"loss": loss, "lr": trainer.optimizers[0].param_groups[0]["lr"]})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, self.record.rows[-1])

    @staticmethod
    def _log(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
