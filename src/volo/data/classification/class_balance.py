"""Class imbalance: counts, a warning, and class weights that compensate for it."""

from collections.abc import Sequence

import numpy as np

#: An imbalance is strong if the largest class has at least this many times as many images as the smallest.
STRONG_IMBALANCE = 10.0

#: Kinds of class weights, see :func:`class_weights`.
BALANCES = ("none", "inverse", "effective")


def class_counts(labels: Sequence[int], classes: int) -> np.ndarray:
    """Return the number of images of every class, (classes,) int64."""
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=classes)


def imbalance(counts: np.ndarray) -> float:
    """Return the number of images of the largest class by that of the smallest; infinite if a class has no images."""
    return float(counts.max() / counts.min()) if counts.min() else float("inf")


def imbalance_warning(counts: np.ndarray, class_names: Sequence[str]) -> str | None:
    """Return a warning of one line if the imbalance is strong, else None."""
    ratio = imbalance(counts)
    if ratio < STRONG_IMBALANCE:
        return None
    most, least = int(counts.argmax()), int(counts.argmin())
    return (
        f"class {class_names[most]!r} has {ratio:,.0f} times as many images as {class_names[least]!r} "
        f"({counts[most]:,} and {counts[least]:,})"
    )


def class_weights(counts: np.ndarray, balance: str, beta: float) -> np.ndarray | None:
    """Return a weight of the loss for every class, (classes,) float32 with mean 1; None if ``balance`` is ``none``.

    Args:
        counts: number of images of every class, each at least 1.
        balance: ``inverse``: 1 / count; ``effective``: 1 / effective number of images, which is
            (1 - beta^count) / (1 - beta) and grows ever more slowly with the count.
        beta: of ``effective``; 0 gives all classes equal weights, a value near 1 gives those of ``inverse``.

    Source: Class-Balanced Loss Based on Effective Number of Samples, arXiv:1901.05555, section 3.
    """
    if balance == "none":
        return None
    effective = counts if balance == "inverse" else (1 - np.power(beta, counts)) / (1 - beta)
    weights = 1 / effective
    return (weights / weights.mean()).astype(np.float32)
