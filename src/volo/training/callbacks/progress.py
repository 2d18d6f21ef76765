"""The progress bar and the report lines of a run on the terminal."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from volo.data import Batch, SegmentationBatch
from volo.training.callbacks.record import Record
from volo.training.config import monitored_metric

#: Seconds between two updates of the progress bar.
_REFRESH = 0.1


class RunProgress(ProgressBar):
    """A progress bar over all batches, with loss, images per second and time left, and a line for every epoch."""

    def __init__(self, console: Console, record: Record) -> None:
        super().__init__()
        self.record = record
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._enabled = True
        self._loss = self._speed = 0.0
        self._last = 0.0
        self._batches = self._images = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.max_epochs, int)
        self._task = self.progress.add_task(
            self._epoch(trainer),
            total=int(trainer.max_epochs * trainer.num_training_batches),
            completed=trainer.fit_loop.epoch_loop.total_batch_idx + 1,
            loss=0.0,
            speed=0.0,
        )
        if self._enabled:
            self.progress.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._last = self._last or time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch | SegmentationBatch,
        batch_idx: int,
    ) -> None:
        self._batches += 1
        self._images += len(batch.images) * trainer.world_size
        now = time.perf_counter()
        if self.progress.disable or (now - self._last < _REFRESH and not trainer.is_last_batch):
            return  # reading the loss makes the CPU wait for the GPU
        speed, loss = (
            self._images / max(now - self._last, 1e-9),
            float(outputs["loss"]) * trainer.accumulate_grad_batches,
        )
        # Show averages over about twenty updates, so that the numbers do not flicker.
        self._loss = loss if not self._loss else 0.95 * self._loss + 0.05 * loss
        self._speed = speed if not self._speed else 0.95 * self._speed + 0.05 * speed
        self.progress.update(
            self._task, advance=self._batches, description=self._epoch(trainer), loss=self._loss, speed=self._speed
        )
        self._last, self._batches, self._images = now, 0, 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        row = self.record.rows[-1]
        score, name = monitored_metric(row)
        left = (trainer.max_epochs or 0) - row["epoch"]
        seconds = left * row["seconds"]
        self.progress.console.print(
            f"{self._epoch(trainer)}  loss {row['train_loss']:.3f}  validation loss {row['val_loss']:.3f}  "
            f"{name} {row[score]:.2%}  {row['images_per_second']:,.0f} images/s  "
            f"{int(seconds // 60)}:{int(seconds % 60):02d} left",
            highlight=False,
            soft_wrap=True,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()  # else the bar would overwrite the final message and leave the cursor hidden

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
