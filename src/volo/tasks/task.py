"""The base class of both tasks: optimizer, reproducible random draws and validation metrics of a training run."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric

from volo.data import STEP, Preprocessing


class Task(pl.LightningModule):
    """A model in training, with random draws that depend only on the position in the run.

    Every random draw of a training step (erasing, MixToken's box, drop path, dropout) is a function of the seed, the
    number of batches before the step and the rank of the process. A resumed run therefore repeats them exactly.

    Args:
        model: the network.
        preprocessing: its mean and standard deviation normalize the batches, which are uint8.
        metrics: metrics of the validation images; :meth:`on_validation_epoch_end` logs those that are scalars.
        seed: seed of the random draws.
        configure: function of the model that returns what Lightning expects of ``configure_optimizers``.

    Attributes:
        step_generator: generator for draws that use neither torch's nor Python's own; seeded anew before every step.
        val_loss: mean loss of the validation images; ``validation_step`` updates it.
        val_metrics: ``metrics``; ``validation_step`` updates them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing,
        metrics: MetricCollection,
        seed: int,
        configure: Callable[[Any], dict[str, Any]],
    ) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.seed = seed
        self.configure = configure
        self.step_generator = torch.Generator()
        self.val_metrics = metrics
        self.val_loss = MeanMetric()

    def configure_optimizers(self) -> Any:
        return self.configure(self.model)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        # timm's schedulers compute the rate from the number of steps done, which makes resuming exact.
        scheduler.step_update(self.global_step)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Seed all generators that a step uses: torch's (drop path, noise), Python's (boxes of erasing), and its own.
        seeds = np.random.SeedSequence((self.seed, STEP, self._batches_before(), self.global_rank)).generate_state(3)
        torch.manual_seed(int(seeds[0]))
        random.seed(int(seeds[1]))
        self.step_generator.manual_seed(int(seeds[2]))

    def _batches_before(self) -> int:
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def on_validation_epoch_end(self) -> None:
        # The IoU of every class is a vector, which Lightning does not log; all other metrics are scalars.
        scores = {f"val_{name}": value for name, value in self.val_metrics.compute().items() if value.ndim == 0}
        # torchmetrics has already summed over the processes. Lightning asks for sync_dist, and the mean of equal
        # values changes nothing.
        self.log_dict({"val_loss": self.val_loss.compute(), **scores}, sync_dist=True, logger=False)
        self.val_loss.reset()
        self.val_metrics.reset()
