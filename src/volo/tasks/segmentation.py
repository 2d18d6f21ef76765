"""Learning to say what every pixel belongs to.

Shape letters: B batch, H W image, K classes.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.aggregation import MeanMetric

from volo.data import IGNORE, Preprocessing, SegmentationBatch
from volo.models import SegmentationModel
from volo.tasks.metrics import segmentation_metrics
from volo.tasks.task import Task


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The mean cross-entropy of logits (B, K, H, W) over the pixels of masks (B, H, W) that are not ignored; 0 of none.

    In float32, whatever the logits are.
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp_min(1)


class SegmentationTask(Task):
    """A segmentation model that learns from pixels, its auxiliary head beside it.

    Validation is at the images' own size: they are brought to ``short_side`` for the model, and its logits back.

    Args:
        model: the network, whose number of classes is that of the masks.
        preprocessing: see :class:`Task`.
        aux_weight: of the auxiliary head's loss; 0 trains without it.
        short_side: pixels along the shorter side of images in training, before they are scaled at random.
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
        super().__init__(model, preprocessing=preprocessing, seed=seed, configure=configure)
        self.aux_weight, self.short_side = aux_weight, short_side
        self.val_metrics = segmentation_metrics(model.num_classes, IGNORE)
        self.val_loss = MeanMetric()

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        logits = self.model.forward_with_aux(self.preprocessing.normalize(batch.images))
        with self.trainer.profiler.profile("loss"):  # type: ignore[attr-defined]  # Fabric's has none
            masks = batch.masks.long()
            return pixel_loss(logits.main, masks) + self.aux_weight * pixel_loss(logits.aux, masks)

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        if not len(batch.images):  # all of its images were unreadable
            return
        masks = batch.masks.long()
        logits = self._logits(self.preprocessing.normalize(batch.images))
        self.val_loss.update(pixel_loss(logits, masks), (masks != IGNORE).sum())
        self.val_metrics.update(logits, masks)

    def _logits(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of whole images, seen by the model at the scale that it is trained at."""
        size = images.shape[2:]
        if self.short_side is None or self.short_side == min(size):
            return self.model(images)
        scaled = [max(1, round(side * self.short_side / min(size))) for side in size]
        logits = self.model(F.interpolate(images, scaled, mode="bilinear", antialias=True))
        return F.interpolate(logits, size, mode="bilinear")

    def on_validation_epoch_end(self) -> None:
        scores = self.val_metrics.compute()
        figures = {f"val_{name}": scores[name] for name in ("miou", "pixel_accuracy")}
        # torchmetrics has summed over the processes already; averaging equal values is what Lightning wants to see.
        self.log_dict({"val_loss": self.val_loss.compute(), **figures}, sync_dist=True, logger=False)
        self.val_loss.reset()
        self.val_metrics.reset()
