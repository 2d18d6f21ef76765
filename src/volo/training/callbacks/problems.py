"""Images that cannot be read: one warning each, or an error. Images that were read with a remark: one warning."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from volo.data import Batch, SegmentationBatch
from volo.data.read_notes import NamedNote, summarize_notes


class Problems(Callback):
    """Print one warning for every image that cannot be read, or raise ValueError if ``strict``.

    After the first epoch of training, which reads every image, what was noted about images is printed, once.

    Attributes:
        seen: the messages printed so far.
    """

    def __init__(self, console: Console, *, strict: bool) -> None:
        self.console, self.strict = console, strict
        self.seen: set[str] = set()
        self.notes: dict[NamedNote, None] | None = {}  # None after they are printed

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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for line in summarize_notes(self.notes or ()):
            self._warn(line)
        self.notes = None

    def _note(self, batch: Batch | SegmentationBatch) -> None:
        if self.notes is not None:
            self.notes.update(dict.fromkeys(batch.notes))
        for problem in batch.problems:
            if self.strict:
                raise ValueError(f"{problem} (strict)")
            if problem not in self.seen:
                self.seen.add(problem)
                self._warn(f"{problem}; left out")

    def _warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)
