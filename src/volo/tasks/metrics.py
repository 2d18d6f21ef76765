"""How good a classifier is."""

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


def classification_metrics(num_classes: int) -> MetricCollection:
    """``top1``, and ``top5`` where there are more than five classes, from logits (B, K) and labels (B,)."""
    metrics: dict[str, Metric | MetricCollection] = {"top1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(metrics)
