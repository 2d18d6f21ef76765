"""What accompanies a run: its record, its problems, its progress on the terminal."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from volo.data import Batch, PairBatch
from volo.files import replacing
from volo.training.config import METRICS_FILE, score_of
from volo.training.curves import draw_curves

#: Seconds between two looks of the progress bar at the loss.
_REFRESH = 0.1


class Record(Callback):
    """One row of figures for every epoch: in ``metrics.csv``, as ``curves.png``, and in every checkpoint.

    Attributes:
        rows: figures by name, one dictionary for each epoch done.
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
        self._started = time.perf_counter()  # an epoch that goes on in its middle has no other start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        self._seconds_before = self._validation_seconds = 0.0
        self._loss, self._batches, self._images = torch.zeros(()), 0, 0

    def _seconds(self) -> float:
        """Of this epoch, those before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._started

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch | PairBatch, batch_idx: int
    ) -> None:
        self._images += len(batch.images) * trainer.world_size
        # Summed where it is, without waiting for the device.
        self._loss = self._loss.to(pl_module.device) + outputs["loss"] * trainer.accumulate_grad_batches
        self._batches += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_seconds += time.perf_counter() - self._validation_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = self._seconds()
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": float(trainer.strategy.reduce(self._loss, reduce_op="mean")) / self._batches,
                **figures,
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                "images_per_second": self._images / max(seconds - self._validation_seconds, 1e-9),
                "seconds": seconds,
            }
        )
        if trainer.is_global_zero:
            with (
                replacing(self.folder / METRICS_FILE) as temporary,
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
            "losses": trainer.strategy.reduce(losses, reduce_op="sum").cpu(),  # each process's own
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


class Problems(Callback):
    """Warn once of every image that cannot be read, or stop there when ``strict``.

    Attributes:
        seen: the messages so far.
    """

    def __init__(self, console: Console, *, strict: bool) -> None:
        self.console, self.strict = console, strict
        self.seen: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._note(batch)
        if not len(batch.images):
            raise ValueError(f"not one of the training images can be read; {batch.problems[0]}")

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._note(batch)

    def _note(self, batch: Batch | PairBatch) -> None:
        for problem in batch.problems:
            if self.strict:
                raise ValueError(f"{problem} (strict)")
            if problem not in self.seen:
                self.seen.add(problem)
                self.console.print(f"warning: {problem}; left out", markup=False, highlight=False, soft_wrap=True)


class RunProgress(ProgressBar):
    """A bar over all batches of the run with loss, images per second and time left, and a line for every epoch."""

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
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch | PairBatch, batch_idx: int
    ) -> None:
        self._batches += 1
        self._images += len(batch.images) * trainer.world_size
        now = time.perf_counter()
        if self.progress.disable or (now - self._last < _REFRESH and not trainer.is_last_batch):
            return  # a look at the loss makes a GPU's queue run empty
        speed, loss = (
            self._images / max(now - self._last, 1e-9),
            float(outputs["loss"]) * trainer.accumulate_grad_batches,
        )
        # Averages over about twenty looks, so that the figures can be read.
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
        score, name = score_of(row)
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
        self.progress.stop()  # or it would write below what is said of the end, and leave the cursor hidden

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
