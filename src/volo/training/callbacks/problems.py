"""Images that cannot be read: one warning each, or an error."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from volo.data import Batch, SegmentationBatch


class Problems(Callback):
    """Print one warning for every image that cannot be read, or raise ValueError if ``strict``.

    Attributes:
        seen: the messages printed so far.
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

    def _note(self, batch: Batch | SegmentationBatch) -> None:
        for problem in batch.problems:
            if self.strict:
                raise ValueError(f"{problem} (strict)")
            if problem not in self.seen:
                self.seen.add(problem)
                self.console.print(f"warning: {problem}; left out", markup=False, highlight=False, soft_wrap=True)
