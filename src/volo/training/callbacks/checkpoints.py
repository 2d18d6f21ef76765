"""What lets a run survive: checkpoints that are never torn, saved often, and once more before a signal ends the run."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from volo.files import atomic_write, system_error

BEST_CHECKPOINT = Path("checkpoints/best.ckpt")
LAST_CHECKPOINT = Path("checkpoints/last.ckpt")

#: Where processes or the device must wait for each other to decide, they do so once in so many optimizer steps.
STEPS_BETWEEN_DECISIONS = 10


class Interrupted(Exception):  # a wish, not an error
    """A signal asked the run to stop; its state was saved before this was raised.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are on the disk, whole, before the one of the same name is given up.

    Lightning's own goes by way of the folder for temporary files: from another file system it is copied over the last
    good checkpoint, byte by byte, and nothing waits for the disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file, wait for the disk, rename.

        Raises:
            RuntimeError: it cannot be written; the checkpoint before stands.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch's own writer turns what the system says into a RuntimeError
            raise RuntimeError(_cannot_save(path, error)) from error

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read it.

        Raises:
            ValueError: it is damaged.
        """
        try:
            return super().load_checkpoint(path, *arguments, **options)
        except OSError:
            raise
        except Exception as error:  # of as many kinds as there are ways to be damaged
            raise ValueError(
                f"{path} cannot be gone on with, since it is damaged; put {BEST_CHECKPOINT.name} in its place, or "
                f"train anew with another --output ({str(error).splitlines()[0][:60]} …)"
            ) from error


def _sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_save(path: Path, error: Exception) -> str:
    what = getattr(system_error(error), "strerror", None) or str(error).splitlines()[0]
    before = "the one saved before it stands" if path.exists() else "none was saved before it"
    run = path.parent.parent
    return f"cannot save {path}: {what}; {before}; when it can be written, go on with: volo train --resume {run}"


def best_checkpoint(folder: Path, score: str) -> ModelCheckpoint:
    """Keep the epoch of the highest ``score``, a figure of validation, as ``best.ckpt``."""
    return ModelCheckpoint(
        dirpath=folder / BEST_CHECKPOINT.parent,
        filename=BEST_CHECKPOINT.stem,
        monitor=score,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class Checkpoints(Checkpoint):
    """Save the run as ``last.ckpt``: after every epoch, every so often within one, and when a signal ends the run.

    Within an epoch it acts only after an optimizer step, when no gradients are half added up, and never after an
    epoch's last batch: the epoch is judged and saved first, since Lightning would not judge it on going on.

    At the first SIGINT (Ctrl-C), SIGTERM or SIGUSR1, any process's, all processes save and raise
    :class:`Interrupted`; a second Ctrl-C stops at once. These handlers take the place of Lightning's, which under
    SLURM would save in the middle of a step, and to another file.

    Args:
        folder: the run's.
        steps: optimizer steps between two saves within an epoch; 0 does not count them.
        minutes: time between two saves; 0 does not look at the clock.
    """

    def __init__(self, folder: Path, *, steps: int, minutes: float) -> None:
        self.path = folder / LAST_CHECKPOINT
        self.steps, self.minutes = steps, minutes
        self._asked = 0
        self._saved_step, self._saved_time = 0, 0.0
        self._interrupt: Any = None
        self._processes = 1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._processes = trainer.world_size

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._interrupt = signal.signal(signal.SIGINT, self._ask)
            for name in ("SIGTERM", "SIGUSR1"):
                if hasattr(signal, name):  # Lightning puts back what was there before it
                    signal.signal(getattr(signal, name), self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and trainer.global_step % STEPS_BETWEEN_DECISIONS:
            return
        due, asked = self._agreed(trainer, self._due(trainer), self._asked)
        if due or asked:
            self._save(trainer)
        if asked:
            raise Interrupted(asked)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        _, asked = self._agreed(trainer, False, self._asked)
        if asked:
            raise Interrupted(asked)

    def _due(self, trainer: pl.Trainer) -> bool:
        by_steps = 0 < self.steps <= trainer.global_step - self._saved_step
        return by_steps or 0 < 60 * self.minutes <= time.monotonic() - self._saved_time

    @staticmethod
    def _agreed(trainer: pl.Trainer, due: bool, asked: int) -> tuple[bool, int]:
        """Whether a save is due in any process and what signal came to any: all must save, or none."""
        if trainer.world_size > 1:
            mine = torch.tensor([int(due), asked], device=trainer.strategy.root_device)
            due, asked = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        return bool(due), asked

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"processes": self._processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["processes"] != self._processes:
            raise ValueError(
                f"the run was trained by {state_dict['processes']} processes and goes on with as many, "
                f"not with {self._processes}: another number sees other batches"
            )
