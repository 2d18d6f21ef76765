"""A run stops at the first number that is none, before a checkpoint can hold it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from volo.data import Batch, SegmentationBatch
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT

#: To read a loss makes a GPU, or the other processes, wait: there it is done once in so many batches.
BATCHES_BETWEEN_LOOKS = 50
_NAMED = 4


class Diverged(RuntimeError):
    """The loss or a weight is NaN or infinite; the first line says where, the others name every image of the batch."""


class FiniteLoss(Callback):
    """Raise :class:`Diverged` when the loss is NaN or infinite, or a weight when it is to be saved.

    Args:
        folder: the run's.
        name: what to call a training image of an index.
    """

    def __init__(self, folder: Path, name: Callable[[int], str]) -> None:
        self.folder, self.name = folder, name
        self._unseen: list[tuple[str, Tensor, Tensor]] = []  # where, loss, image indices: on the device

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch | SegmentationBatch,
        batch_idx: int,
    ) -> None:
        where = f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1} of {trainer.num_training_batches}"
        self._unseen.append((f"{where}, step {trainer.global_step}", outputs["loss"].detach(), batch.indices))
        free = pl_module.device.type == "cpu" and trainer.world_size == 1
        if free or trainer.is_last_batch or len(self._unseen) >= BATCHES_BETWEEN_LOOKS:
            self._look(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look(trainer)
        state = checkpoint["state_dict"]  # under FSDP the first process's alone
        bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        if trainer.strategy.reduce_boolean_decision(bool(bad), all=False):
            which = f"the weights {bad[0]} and {len(bad) - 1} others" if bad else "weights"
            self._stop(f"{which} are no longer finite after step {trainer.global_step}")

    def _look(self, trainer: pl.Trainer) -> None:
        if not self._unseen:
            return
        finite = torch.stack([loss for _, loss, _ in self._unseen]).isfinite().tolist()
        first = finite.index(False) if False in finite else len(finite)
        if trainer.world_size > 1:  # a bad loss of one process spoils those of all in the next batch
            mine = torch.tensor(first, device=trainer.strategy.root_device)
            first_of_all = int(trainer.strategy.reduce(mine, reduce_op="min"))
        else:
            first_of_all = first
        if first_of_all < len(finite):
            where, loss, indices = self._unseen[first_of_all]
            if first > first_of_all:
                self._stop(f"the loss of another process is not finite in {where}")
            names = [self.name(index) for index in indices.tolist()]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self._stop(f"the loss is {float(loss)} in {where}, images {', '.join(names[:_NAMED])}{more}", names)
        self._unseen.clear()

    def _stop(self, what: str, images: list[str] | None = None) -> None:
        checkpoint = self.folder / LAST_CHECKPOINT
        kept = f"{checkpoint} is from before" if checkpoint.exists() else "nothing was saved yet"
        first = f"{what}; {kept}; try a lower optim.lr, a longer warm-up, or a precision other than float16"
        raise Diverged("\n".join([first, *(images or [])]))
