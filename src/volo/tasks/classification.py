"""The classification task: training loss and validation of a VOLO classifier."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from volo.data import Batch, Preprocessing
from volo.models import VOLO, Logits
from volo.tasks.losses import LossConfig, repeated_label_loss
from volo.tasks.metrics import classification_metrics
from volo.tasks.mixtoken import draw_box, mix_tokens, unmix_logits
from volo.tasks.task import Task
from volo.tasks.token_labels import token_label_loss


class ClassificationTask(Task):
    """A VOLO classifier in training, with the dense token loss and MixToken.

    Args:
        model: the network; its number of classes is that of the labels.
        preprocessing: see :class:`Task`.
        loss: weights of the loss.
        erasing: probability, 0–1, of replacing a random box of an image with noise.
        seed: see :class:`Task`.
        configure: see :class:`Task`.
        class_weights: (K,) floating, the weight of each class in the training loss; None gives all the same weight.
    """

    model: VOLO

    def __init__(
        self,
        model: VOLO,
        *,
        preprocessing: Preprocessing,
        loss: LossConfig,
        erasing: float,
        seed: int,
        configure: Callable[[VOLO], dict[str, Any]],
        class_weights: Tensor | None = None,
    ) -> None:
        metrics = classification_metrics(model.config.num_classes)
        super().__init__(model, preprocessing=preprocessing, metrics=metrics, seed=seed, configure=configure)
        self.loss = loss
        self.erase = RandomErasing(probability=erasing, mode="pixel", device="cpu")
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.erase.device = batch.images.device
        images = self.erase(self.preprocessing.normalize(batch.images))
        tokens = self.model.embed(images)
        if not self.loss.mix_token:
            return self._loss(self.model.forward_head(self.model.forward_tokens(tokens)), batch)
        grid = (tokens.shape[1] // 2, tokens.shape[2] // 2)
        box = draw_box(grid, self.step_generator)
        logits = self.model.forward_head(self.model.forward_tokens(mix_tokens(tokens, box)))
        logits = logits._replace(tokens=unmix_logits(logits.tokens, box))
        return self._loss(logits, batch, box.kept(grid))

    def _loss(self, logits: Logits, batch: Batch, kept: float = 1.0) -> Tensor:
        with self.trainer.profiler.profile("loss"):  # type: ignore[attr-defined]  # Fabric's profiler lacks it
            if batch.tokens is None:
                return repeated_label_loss(self.loss, logits, batch.labels, kept, self.class_weights)
            return token_label_loss(self.loss, logits, batch.labels, batch.tokens, kept)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not len(batch.labels):  # none of its images could be read
            return
        logits = self.model(self.preprocessing.normalize(batch.images))
        self.val_loss.update(F.cross_entropy(logits.float(), batch.labels), len(batch.labels))
        self.val_metrics.update(logits, batch.labels)
