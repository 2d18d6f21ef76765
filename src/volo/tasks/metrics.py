"""Validation metrics of classification and segmentation, from torchmetrics."""

from typing import Any

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex


def classification_metrics(num_classes: int) -> MetricCollection:
    """Return ``top1``, and ``top5`` if there are more than five classes, from logits (B, K) and labels (B,)."""
    metrics: dict[str, Metric | MetricCollection] = {"top1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics)


def segmentation_metrics(num_classes: int, ignore_index: int) -> MetricCollection:
    """Return ``miou``, ``iou`` (K,) and ``pixel_accuracy``, 0–1, from logits (B, K, H, W) and masks (B, H, W).

    IoU = TP / (TP + FP + FN), with pixels summed over all images and processes before the division. Pixels of
    ``ignore_index`` are not counted. A class that occurs in no mask and no prediction has the IoU NaN and is left out
    of the mean; a class that occurs in predictions only has the IoU 0. mmsegmentation and the authors of ADE20K define
    the mean IoU in the same way.
    """
    options: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index, "validate_args": False}
    return MetricCollection(
        {
            "miou": MulticlassJaccardIndex(average="macro", **options),
            "iou": MulticlassJaccardIndex(average="none", zero_division=float("nan"), **options),
            "pixel_accuracy": MulticlassAccuracy(average="micro", **options),
        }
    )
