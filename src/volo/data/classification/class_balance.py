"""Classes of very different sizes: how to see them, and weights that make up for them."""

from collections.abc import Sequence

import numpy as np

#: From this many times as many images in the largest class as in the smallest on, an imbalance is called strong.
STRONG_IMBALANCE = 10.0

BALANCES = ("none", "inverse", "effective")


def class_counts(labels: Sequence[int], classes: int) -> np.ndarray:
    """(classes,) images of every class."""
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=classes)


def imbalance(counts: np.ndarray) -> float:
    """How many times as many images the largest class has as the smallest; infinite where one has none."""
    return float(counts.max() / counts.min()) if counts.min() else float("inf")


def imbalance_warning(counts: np.ndarray, class_names: Sequence[str]) -> str | None:
    """One line about a strong imbalance, or None."""
    ratio = imbalance(counts)
    if ratio < STRONG_IMBALANCE:
        return None
    most, least = int(counts.argmax()), int(counts.argmin())
    return (
        f"class {class_names[most]!r} has {ratio:,.0f} times as many images as {class_names[least]!r} "
        f"({counts[most]:,} and {counts[least]:,})"
    )


def class_weights(counts: np.ndarray, balance: str, beta: float) -> np.ndarray | None:
    """(classes,) float32 weights of mean one for the loss of images of every class; None for ``none``.

    Args:
        counts: images of every class, each at least one.
        balance: ``inverse``: one by the count; ``effective``: one by the effective number of images,
            (1 - beta^count) / (1 - beta), which grows ever more slowly.
        beta: see there; 0 weighs all classes alike, near 1 as ``inverse`` does.

    Source: Class-Balanced Loss Based on Effective Number of Samples, arXiv:1901.05555, section 3.
    """
    if balance == "none":
        return None
    effective = counts if balance == "inverse" else (1 - np.power(beta, counts)) / (1 - beta)
    weights = 1 / effective
    return (weights / weights.mean()).astype(np.float32)
