"""The record of a run: the metrics of every epoch, as a table, a picture and part of every checkpoint."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from volo.data import Batch, SegmentationBatch
from volo.files import atomic_write
from volo.training.config import METRICS_FILE
from volo.training.reports.curves import draw_curves


class Record(Callback):
    """Record the metrics of every epoch in ``metrics.csv``, ``curves.png`` and every checkpoint.

    Attributes:
        rows: one dictionary for each finished epoch, metric → value.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self._started = self._validation_started = 0.0
        self._seconds_before = self._validation_seconds = 0.0
        self._images = 0
        self._loss = torch.zeros(())
        self._batches = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()  # an epoch resumed in its middle has no on_train_epoch_start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        self._seconds_before = self._validation_seconds = 0.0
        self._loss, self._batches, self._images = torch.zeros(()), 0, 0

    def _seconds(self) -> float:
        """Return the seconds of this epoch, including those before an interruption."""
        return self._seconds_before + time.perf_counter() - self._started

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch | SegmentationBatch,
        batch_idx: int,
    ) -> None:
        self._images += len(batch.images) * trainer.world_size
        # The sum stays on the device, so that the CPU does not wait for it.
        self._loss = self._loss.to(pl_module.device) + outputs["loss"] * trainer.accumulate_grad_batches
        self._batches += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_seconds += time.perf_counter() - self._validation_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = self._seconds()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": float(trainer.strategy.reduce(self._loss, reduce_op="mean")) / self._batches,
                **metrics,
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                "images_per_second": self._images / max(seconds - self._validation_seconds, 1e-9),
                "seconds": seconds,
            }
        )
        if trainer.is_global_zero:
            with (
                atomic_write(self.folder / METRICS_FILE) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)
            draw_curves(self.rows, self.folder / "curves.png")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        losses = torch.zeros(trainer.world_size, device=pl_module.device)
        losses[trainer.global_rank] = self._loss
        checkpoint["record"] = {
            "rows": self.rows,
            "losses": trainer.strategy.reduce(losses, reduce_op="sum").cpu(),  # one sum for each process
            "batches": self._batches,
            "images": self._images,
            "seconds": self._seconds(),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["record"]
        self.rows, self._loss = state["rows"], state["losses"][trainer.global_rank]
        self._batches, self._images, self._seconds_before = state["batches"], state["images"], state["seconds"]
