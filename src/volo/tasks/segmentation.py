"""The segmentation task: training loss and validation of a VOLO with a decoder.

Shape letters: B batch, H W image, K classes.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from volo.data import IGNORE, Preprocessing, SegmentationBatch
from volo.models import SegmentationModel
from volo.tasks.metrics import segmentation_metrics
from volo.tasks.task import Task


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy over all pixels that are not ignored, or 0 if all are ignored.

    Args:
        logits: (B, K, H, W), any floating dtype; the loss is computed in float32.
        masks: (B, H, W) int64 class indices, or ``IGNORE``.

    Returns:
        A scalar, float32.
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp_min(1)


class SegmentationTask(Task):
    """A segmentation model in training, with the cross-entropy of every pixel and an auxiliary head.

    Validation compares logits and masks at the size of the images: each image is resized to ``short_side`` for the
    model, and the logits are resized back.

    Args:
        model: the network; its number of classes is that of the masks.
        preprocessing: see :class:`Task`.
        aux_weight: weight of the auxiliary head's loss, at least 0; 0 trains without the head.
        short_side: pixels along the shorter side of training images, before random scaling; None keeps their size.
        seed: see :class:`Task`.
        configure: see :class:`Task`.
    """

    model: SegmentationModel

    def __init__(
        self,
        model: SegmentationModel,
        *,
        preprocessing: Preprocessing,
        aux_weight: float,
        short_side: int | None,
        seed: int,
        configure: Callable[[SegmentationModel], dict[str, Any]],
    ) -> None:
        metrics = segmentation_metrics(model.num_classes, IGNORE)
        super().__init__(model, preprocessing=preprocessing, metrics=metrics, seed=seed, configure=configure)
        self.aux_weight, self.short_side = aux_weight, short_side

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        logits = self.model.forward_with_aux(self.preprocessing.normalize(batch.images))
        with self.trainer.profiler.profile("loss"):  # type: ignore[attr-defined]  # Fabric's profiler lacks it
            masks = batch.masks.long()
            return pixel_loss(logits.main, masks) + self.aux_weight * pixel_loss(logits.aux, masks)

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        if not len(batch.images):  # none of its images could be read
            return
        masks = batch.masks.long()
        logits = self._logits(self.preprocessing.normalize(batch.images))
        self.val_loss.update(pixel_loss(logits, masks), (masks != IGNORE).sum())
        self.val_metrics.update(logits, masks)

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, K, H, W) of whole images (B, C, H, W), which the model sees at its training scale."""
        size = images.shape[2:]
        if self.short_side is None or self.short_side == min(size):
            return self.model(images)
        scaled = [max(1, round(side * self.short_side / min(size))) for side in size]
        logits = self.model(F.interpolate(images, scaled, mode="bilinear", antialias=True))
        return F.interpolate(logits, size, mode="bilinear")
