"""What learning to classify and learning to segment share."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from volo.data import STEP, Preprocessing


class Task(pl.LightningModule):
    """A model that learns, whose steps draw the same however the run came to them.

    Every draw of a step (erasing, MixToken's box, drop path, dropout) is a function of the seed, the number of
    batches before it, and the process's rank.

    Args:
        model: the network.
        preprocessing: its mean and standard deviation normalize the batches, which are uint8.
        seed: see above.
        configure: gives the optimizer configuration that Lightning expects of ``configure_optimizers``.

    Attributes:
        step_generator: seeded anew before every step, for draws that are neither torch's nor Python's own.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing,
        seed: int,
        configure: Callable[[Any], dict[str, Any]],
    ) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.seed = seed
        self.configure = configure
        self.step_generator = torch.Generator()

    def configure_optimizers(self) -> Any:
        return self.configure(self.model)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        # timm's schedulers compute the rate from the number of steps done, which makes resuming exact.
        scheduler.step_update(self.global_step)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # All generators that a step uses: torch's (drop path, noise), Python's (boxes of erasing), and its own.
        seeds = np.random.SeedSequence((self.seed, STEP, self._batches_before(), self.global_rank)).generate_state(3)
        torch.manual_seed(int(seeds[0]))
        random.seed(int(seeds[1]))
        self.step_generator.manual_seed(int(seeds[2]))

    def _batches_before(self) -> int:
        return self.trainer.fit_loop.epoch_loop.total_batch_idx
