"""Stop a run at the first loss or weight that is NaN or infinite, before a checkpoint is saved with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from volo.data import Batch, SegmentationBatch
from volo.messages import join_few
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT

#: Batches between two checks of the loss on a GPU or with several processes, where each check makes them wait.
BATCHES_BETWEEN_CHECKS = 50
#: Largest number of images that the first line of the error names.
_MAX_NAMES = 4


class Diverged(RuntimeError):
    """The loss or a weight is NaN or infinite.

    The first line of the message gives the place in the run; the other lines name every image of the batch.
    """


class FiniteLoss(Callback):
    """Raise :class:`Diverged` if the loss is NaN or infinite, or if a weight is when a checkpoint is to be saved.

    Args:
        folder: the run folder.
        name: function from the index of a training image to its name.
    """

    def __init__(self, folder: Path, name: Callable[[int], str]) -> None:
        self.folder, self.name = folder, name
        self._unchecked: list[tuple[str, Tensor, Tensor]] = []  # place, loss, image indices; tensors stay on the device

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch | SegmentationBatch,
        batch_idx: int,
    ) -> None:
        place = f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1} of {trainer.num_training_batches}"
        self._unchecked.append((f"{place}, step {trainer.global_step}", outputs["loss"].detach(), batch.indices))
        cheap = pl_module.device.type == "cpu" and trainer.world_size == 1
        if cheap or trainer.is_last_batch or len(self._unchecked) >= BATCHES_BETWEEN_CHECKS:
            self._check_losses(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check_losses(trainer)
        state = checkpoint["state_dict"]  # under FSDP only the first process has it
        bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        if trainer.strategy.reduce_boolean_decision(bool(bad), all=False):
            which = f"the weights {join_few(bad)}" if bad else "weights"
            self._stop(f"{which} are no longer finite after step {trainer.global_step}")

    def _check_losses(self, trainer: pl.Trainer) -> None:
        if not self._unchecked:
            return
        finite = torch.stack([loss for _, loss, _ in self._unchecked]).isfinite().tolist()
        first = finite.index(False) if False in finite else len(finite)
        if trainer.world_size > 1:  # a bad loss in one process spoils the next batch of every process
            own = torch.tensor(first, device=trainer.strategy.root_device)
            first_of_all = int(trainer.strategy.reduce(own, reduce_op="min"))
        else:
            first_of_all = first
        if first_of_all < len(finite):
            place, loss, indices = self._unchecked[first_of_all]
            if first > first_of_all:
                self._stop(f"the loss of another process is not finite in {place}")
            names = [self.name(index) for index in indices.tolist()]
            rest = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            self._stop(f"the loss is {float(loss)} in {place}, images {', '.join(names[:_MAX_NAMES])}{rest}", names)
        self._unchecked.clear()

    def _stop(self, problem: str, images: list[str] | None = None) -> None:
        checkpoint = self.folder / LAST_CHECKPOINT
        saved = f"{checkpoint} was saved before" if checkpoint.exists() else "no checkpoint was saved yet"
        first = f"{problem}; {saved}; try a lower optim.lr, a longer warm-up, or a precision other than float16"
        raise Diverged("\n".join([first, *(images or [])]))
