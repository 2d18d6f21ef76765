"""Checkpoints: written atomically, after every epoch, at intervals within it, and when a signal stops the run."""

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
from volo.messages import quoted
from volo.models.weights.readers.torch_pickle import read_pickled

BEST_CHECKPOINT = Path("checkpoints/best.ckpt")
LAST_CHECKPOINT = Path("checkpoints/last.ckpt")

#: Optimizer steps between two common decisions of several processes to save or stop; each makes them wait.
STEPS_BETWEEN_DECISIONS = 10


class Interrupted(Exception):  # a request of the user, not an error
    """A signal asked the run to stop; its state was saved before this was raised.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that replace the previous file of the same name only when they are complete on the disk.

    Lightning's own plugin writes into the system's temporary folder first. If that is on another file system, it then
    copies the new file over the last good checkpoint byte by byte, without waiting for the disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint to a temporary file, wait for the disk, and rename the file to ``path``.

        Raises:
            RuntimeError: The file cannot be written; the previous checkpoint is intact.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch's writer turns an OSError into a RuntimeError
            raise RuntimeError(_cannot_save(path, error)) from error

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is damaged.
        """
        try:
            return super().load_checkpoint(path, *arguments, **options)
        except OSError:
            raise
        except Exception as error:  # a damaged file can raise almost any error
            raise ValueError(_cannot_resume(path, "is damaged")) from error


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run, memory-mapped, without running code in it.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, could run code, or is not a checkpoint of a run.
    """
    try:
        state = read_pickled(path)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path} ").partition(";")[0]
        raise ValueError(_cannot_resume(path, reason)) from error
    if not isinstance(state, dict) or not isinstance(state.get("state_dict"), dict):
        raise ValueError(_cannot_resume(path, "is not a checkpoint of a run"))
    return state


def _cannot_resume(path: Path, reason: str) -> str:
    """Return the error message about a checkpoint that cannot be used."""
    other = LAST_CHECKPOINT if Path(path).name == BEST_CHECKPOINT.name else BEST_CHECKPOINT
    advice = f"replace it with a copy of {other.name}, or train again with another --output"
    return f"{path} cannot be resumed, since it {reason}; {advice}"


def _sync_folder(folder: Path) -> None:
    """Wait until the file names of ``folder`` are on the disk, if the system supports that."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_save(path: Path, error: Exception) -> str:
    reason = getattr(system_error(error), "strerror", None) or str(error).splitlines()[0]
    previous = "the checkpoint saved before is intact" if path.exists() else "no checkpoint was saved before"
    run = path.parent.parent
    resume = f"when the file can be written, resume with: volo train --resume {quoted(run)}"
    return f"cannot save {path}: {reason}; {previous}; {resume}"


class BestCheckpoint(ModelCheckpoint):
    """Keep the epoch with the highest score as ``best.ckpt``, also after the run folder was moved.

    Args:
        folder: the run folder.
        score: name of a validation metric.
    """

    def __init__(self, folder: Path, score: str) -> None:
        super().__init__(
            dirpath=folder / BEST_CHECKPOINT.parent,
            filename=BEST_CHECKPOINT.stem,
            monitor=score,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        # Earlier versions used Lightning's class itself, whose name begins the key in their checkpoints.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, which Lightning forgets if the folder is not the one in which it was saved."""
        best = Path(str(self.dirpath)) / BEST_CHECKPOINT.name
        if not best.exists():  # the best of the coming epochs is kept
            return
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: str(best) for name in names if state_dict.get(name)}
        scores = {str(best): score for score in state_dict.get("best_k_models", {}).values()}
        super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": scores})


class Checkpoints(Checkpoint):
    """Save the run as ``last.ckpt``: after every epoch, at intervals within an epoch, and when a signal stops the run.

    Within an epoch the callback saves or stops only after an optimizer step, when no gradients are partly
    accumulated, and never after the last batch of an epoch: that epoch is evaluated and saved first, since Lightning
    would skip its evaluation in the resumed run.

    When any process receives its first SIGINT (Ctrl-C), SIGTERM or SIGUSR1, all processes save and raise
    :class:`Interrupted`; a second Ctrl-C stops at once. These signal handlers replace Lightning's, which under SLURM
    would save in the middle of a step, and to another file.

    Args:
        folder: the run folder.
        steps: optimizer steps between two saves within an epoch; 0 turns this interval off.
        minutes: minutes between two saves within an epoch; 0 turns this interval off.
    """

    def __init__(self, folder: Path, *, steps: int, minutes: float) -> None:
        self.path = folder / LAST_CHECKPOINT
        self.steps, self.minutes = steps, minutes
        self._signal = 0  # the number of the signal received, if any
        self._saved_step, self._saved_time = 0, 0.0
        self._interrupt: Any = None
        self._processes = 1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._processes = trainer.world_size

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._interrupt = signal.signal(signal.SIGINT, self._receive)
            for name in ("SIGTERM", "SIGUSR1"):
                if hasattr(signal, name):  # Lightning restores the earlier handlers at the end
                    signal.signal(getattr(signal, name), self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self._signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and trainer.global_step % STEPS_BETWEEN_DECISIONS:
            return
        due, number = self._agree(trainer, self._due(trainer), self._signal)
        if due or number:
            self._save(trainer)
        if number:
            raise Interrupted(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        _, number = self._agree(trainer, False, self._signal)
        if number:
            raise Interrupted(number)

    def _due(self, trainer: pl.Trainer) -> bool:
        by_steps = 0 < self.steps <= trainer.global_step - self._saved_step
        return by_steps or 0 < 60 * self.minutes <= time.monotonic() - self._saved_time

    @staticmethod
    def _agree(trainer: pl.Trainer, due: bool, number: int) -> tuple[bool, int]:
        """Return whether a save is due in any process, and the signal that any process received (0 for none).

        All processes must save together, or none.
        """
        if trainer.world_size > 1:
            own = torch.tensor([int(due), number], device=trainer.strategy.root_device)
            due, number = trainer.strategy.reduce(own, reduce_op="max").tolist()
        return bool(due), number

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"processes": self._processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["processes"] != self._processes:
            raise ValueError(
                f"the run was trained by {state_dict['processes']} processes and must be resumed with as many, "
                f"not with {self._processes}: the number of processes decides the batches"
            )
