"""Learning to classify images."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchmetrics.aggregation import MeanMetric

from volo.data import Batch, Preprocessing
from volo.models import VOLO, Logits
from volo.tasks.losses import LossConfig, repeated_label_loss
from volo.tasks.metrics import classification_metrics
from volo.tasks.mixtoken import draw_box, mix_tokens, unmix_logits
from volo.tasks.task import Task
from volo.tasks.token_labels import token_label_loss


class ClassificationTask(Task):
    """A VOLO that learns classes with the dense token loss and MixToken.

    Args:
        model: the network, whose number of classes is that of the labels.
        preprocessing: see :class:`Task`.
        loss: weights of the loss.
        erasing: probability of replacing a random box of an image by noise.
        seed: see :class:`Task`.
        configure: see :class:`Task`.
        class_weights: (classes,) of images of every class in the training loss; None weighs all alike.
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
        super().__init__(model, preprocessing=preprocessing, seed=seed, configure=configure)
        self.loss = loss
        self.erase = RandomErasing(probability=erasing, mode="pixel", device="cpu")
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.val_metrics = classification_metrics(model.config.num_classes)
        self.val_loss = MeanMetric()

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
        with self.trainer.profiler.profile("loss"):  # type: ignore[attr-defined]  # Fabric's has none
            if batch.tokens is None:
                return repeated_label_loss(self.loss, logits, batch.labels, kept, self.class_weights)
            return token_label_loss(self.loss, logits, batch.labels, batch.tokens, kept)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not len(batch.labels):  # all of its images were unreadable
            return
        logits = self.model(self.preprocessing.normalize(batch.images))
        self.val_loss.update(F.cross_entropy(logits.float(), batch.labels), len(batch.labels))
        self.val_metrics.update(logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        scores = {f"val_{name}": value for name, value in self.val_metrics.compute().items()}
        # torchmetrics has summed over the processes already; averaging equal values is what Lightning wants to see.
        self.log_dict({"val_loss": self.val_loss.compute(), **scores}, sync_dist=True, logger=False)
        self.val_loss.reset()
        self.val_metrics.reset()
