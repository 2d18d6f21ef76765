"""Scores of a classifier, computed from its predictions for N images and K classes.

Needs the extra ``volo[train]``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binned_statistic, binomtest, bootstrap
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

#: Number of equally wide bins of probability for the calibration error and its plot.
BINS = 15
#: Resamples of the bootstrap, how many of them are in memory at a time, and the random seed.
RESAMPLES, _AT_A_TIME, _SEED = 1000, 10, 0


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores of each class, arrays (K,), 0–1; NaN if undefined.

    Attributes:
        images: number of images of the class.
        precision: TP / (TP + FP); NaN for a class that was never predicted.
        recall: TP / (TP + FN); NaN for a class without images.
        f1: 2 TP / (2 TP + FP + FN); NaN for a class without images.
    """

    images: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> ClassScores:
    """Return precision, recall and F1 of each class.

    Args:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
        classes: K.
    """
    images, predictions = (np.bincount(values, minlength=classes) for values in (labels, predicted))
    precision, recall, f1 = (
        score(torch.from_numpy(predicted), torch.from_numpy(labels), classes, average="none").double().numpy()
        for score in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    )
    return ClassScores(
        images=images,
        precision=np.where(predictions > 0, precision, np.nan),
        recall=np.where(images > 0, recall, np.nan),
        f1=np.where(images > 0, f1, np.nan),
    )


def overall_scores(
    labels: np.ndarray, ranked: np.ndarray, probability: np.ndarray, classes: int
) -> dict[str, float | None]:
    """Return the scores of all images together.

    Args:
        labels: (N,) true classes.
        ranked: (N, 1 to 5) most likely classes, best first.
        probability: (N,) probability of the most likely class, 0–1.
        classes: K.

    Returns:
        ``top1``: accuracy. ``top5``: share of images whose class is among the five most likely; None with five
        classes or fewer. ``balanced_accuracy``: mean recall of the classes that have images. ``calibration_error``
        (ECE): mean distance between probability and accuracy in ``BINS`` bins, weighted by images. All are 0–1.
    """
    truth, best = torch.from_numpy(labels), torch.from_numpy(ranked[:, 0])
    recall = multiclass_recall(best, truth, classes, average="none", validate_args=False)
    right = (best == truth).int()
    return {
        "top1": float(multiclass_accuracy(best, truth, classes, average="micro", validate_args=False)),
        "top5": float((ranked == labels[:, None]).any(axis=1).mean()) if classes > 5 else None,
        "balanced_accuracy": float(recall[truth.unique()].mean()),
        "calibration_error": float(
            binary_calibration_error(torch.from_numpy(probability), right, n_bins=BINS, validate_args=False)
        ),
    }


def confidence_intervals(
    scores: Callable[[np.ndarray], dict[str, float | None]], count: int
) -> dict[str, tuple[float, float] | None]:
    """Return 95 % bootstrap intervals of ``scores``, by drawing N images with replacement ``RESAMPLES`` times.

    All scores but the calibration error use the percentile bootstrap. The calibration error is a mean of distances,
    so resampling makes it larger. Its interval is therefore mirrored about the score (the basic bootstrap), which
    removes this bias. Near 0 this interval is too narrow; :func:`chance_calibration_error` returns the bound below
    which this matters.

    Args:
        scores: function from the indices of images (N,) to the scores of these images.
        count: N.

    Returns:
        (low, high) of each score that is not None; None in place of the pair for fewer than two images.
    """
    names = [name for name, value in scores(np.arange(count)).items() if value is not None]

    def statistic(rows: np.ndarray, axis: int) -> np.ndarray:
        drawn = [scores(resample) for resample in rows.reshape(-1, count)]
        return np.array([[score[name] for score in drawn] for name in names]).reshape(len(names), *rows.shape[:-1])

    if count < 2:  # every resample is the same
        return dict.fromkeys(names)
    options = {"statistic": statistic, "vectorized": True, "rng": np.random.default_rng(_SEED)}
    plain = bootstrap((np.arange(count),), n_resamples=RESAMPLES, batch=_AT_A_TIME, method="percentile", **options)
    mirrored = bootstrap((np.arange(count),), n_resamples=0, bootstrap_result=plain, method="basic", **options)
    chosen = [mirrored if name == "calibration_error" else plain for name in names]
    return {
        name: (max(0.0, float(result.confidence_interval.low[i])), float(result.confidence_interval.high[i]))
        for i, (name, result) in enumerate(zip(names, chosen, strict=True))
    }


def chance_calibration_error(probability: np.ndarray) -> float:
    """Return the 95 % quantile of the calibration error of a perfectly calibrated model with these probabilities.

    Whether each prediction is correct is drawn at random with its probability (consistency resampling, Bröcker and
    Smith, 2007). A calibration error below the returned value is not evidence of bad calibration.

    Args:
        probability: (N,) probability of the most likely class, 0–1.
    """
    rng, stated = np.random.default_rng(_SEED), torch.from_numpy(probability)
    errors = [
        float(binary_calibration_error(stated, torch.from_numpy(right).int(), n_bins=BINS, validate_args=False))
        for right in (rng.random(len(probability)) < probability for _ in range(RESAMPLES))
    ]
    return float(np.quantile(errors, 0.95))


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """Images grouped by the probability of their prediction, in ``BINS`` bins of equal width.

    Attributes:
        images: (BINS,) number of images.
        probability: (BINS,) mean probability, 0–1; NaN in an empty bin.
        right: (BINS,) share of correct predictions, 0–1; NaN in an empty bin.
    """

    images: np.ndarray
    probability: np.ndarray
    right: np.ndarray

    def interval(self, place: int) -> tuple[float, float]:
        """Return the 95 % interval (Wilson's) of the share of correct predictions in a bin that has images."""
        images = int(self.images[place])
        ends = binomtest(round(self.right[place] * images), images).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)


def calibration_bins(probability: np.ndarray, right: np.ndarray) -> CalibrationBins:
    """Return the bins that the calibration error sums over.

    Args:
        probability: (N,) probability of the most likely class, 0–1.
        right: (N,) bool, True for correct predictions.
    """
    means = binned_statistic(probability, [probability, right.astype(float)], bins=BINS, range=(0, 1)).statistic
    images = np.histogram(probability, bins=BINS, range=(0, 1))[0]
    return CalibrationBins(images=images, probability=means[0], right=means[1])
