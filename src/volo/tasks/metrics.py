"""How good a classifier is, and how good a segmentation."""

from typing import Any

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex


def classification_metrics(num_classes: int) -> MetricCollection:
    """``top1``, and ``top5`` where there are more than five classes, from logits (B, K) and labels (B,)."""
    metrics: dict[str, Metric | MetricCollection] = {"top1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics)


def segmentation_metrics(num_classes: int, ignore_index: int) -> MetricCollection:
    """``miou``, ``iou`` (K,) of each class, and ``pixel_accuracy``, 0–1, from logits (B, K, H, W) and masks (B, H, W).

    Pixels are counted over all images and processes before anything is divided. Pixels of ``ignore_index`` count for
    nothing. A class that is neither in the masks nor in the answers has no IoU, NaN, and is left out of the mean; one
    that is only in the answers has 0. That is how the field counts (mmsegmentation, the authors of ADE20K).
    """
    usual: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index, "validate_args": False}
    return MetricCollection(
        {
            "miou": MulticlassJaccardIndex(average="macro", **usual),
            "iou": MulticlassJaccardIndex(average="none", zero_division=float("nan"), **usual),
            "pixel_accuracy": MulticlassAccuracy(average="micro", **usual),
        }
    )
