"""Scores of a classifier, from what it said of every image. Needs the extra ``volo[train]``.

N images, K classes.
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

#: What the scores are called where a person looks.
SCORE_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "calibration_error": "calibration error",
}
#: Bins of probability, equally wide, for the calibration error and its picture.
BINS = 15
#: Resamples of the bootstrap, how many of them are held at a time, and their seed.
RESAMPLES, _AT_A_TIME, _SEED = 1000, 10, 0


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores of every class, arrays (K,); NaN where there is nothing to divide by.

    Attributes:
        images: how many images of the class there are.
        precision: share of the images given this name that are of the class; NaN where none was.
        recall: share of the class's images that were given its name; NaN where it has no images.
        f1: harmonic mean of the two, 0 where no image was named right; NaN where the class has no images.
    """

    images: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> ClassScores:
    """Precision, recall and F1 of every class, from true and predicted classes (N,)."""
    images, named = (np.bincount(values, minlength=classes) for values in (labels, predicted))
    precision, recall, f1 = (
        score(torch.from_numpy(predicted), torch.from_numpy(labels), classes, average="none").double().numpy()
        for score in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    )
    return ClassScores(
        images=images,
        precision=np.where(named > 0, precision, np.nan),
        recall=np.where(images > 0, recall, np.nan),
        f1=np.where(images > 0, f1, np.nan),
    )


def overall_scores(
    labels: np.ndarray, ranked: np.ndarray, probability: np.ndarray, classes: int
) -> dict[str, float | None]:
    """The scores that are one number each.

    Args:
        labels: (N,) true classes.
        ranked: (N, 1 to 5) likeliest classes, best first.
        probability: (N,) of the likeliest class, 0–1.
        classes: K.

    Returns:
        ``top1``; ``top5``, None with five classes or fewer; ``balanced_accuracy``, the mean recall of the classes
        that have images; ``calibration_error``, the mean distance between probability and share of right answers
        in ``BINS`` bins, weighted by images (ECE).
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
    """95 % intervals of ``scores``, by drawing as many images with replacement, again and again.

    The interval of a share is that of the resampled shares. Resampling makes every calibration error larger, as it
    is a mean of distances: its interval is mirrored about the score (the basic bootstrap), which takes that out.
    Near 0 it remains too narrow; :func:`chance_calibration_error` says how near that is.

    Args:
        scores: gives the scores of the images at these places (N,).
        count: N.
    """
    names = [name for name, value in scores(np.arange(count)).items() if value is not None]

    def statistic(rows: np.ndarray, axis: int) -> np.ndarray:
        drawn = [scores(places) for places in rows.reshape(-1, count)]
        return np.array([[score[name] for score in drawn] for name in names]).reshape(len(names), *rows.shape[:-1])

    if count < 2:  # nothing varies
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
    """What the calibration error of a perfectly calibrated model stays below in 95 of 100 samples of images.

    Its answers are drawn to be right as often as these probabilities (N,) say (consistency resampling, Bröcker and
    Smith, 2007). A calibration error below this cannot be told from none.
    """
    rng, stated = np.random.default_rng(_SEED), torch.from_numpy(probability)
    errors = [
        float(binary_calibration_error(stated, torch.from_numpy(right).int(), n_bins=BINS, validate_args=False))
        for right in (rng.random(len(probability)) < probability for _ in range(RESAMPLES))
    ]
    return float(np.quantile(errors, 0.95))


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """Images by the probability of their answer, in ``BINS`` bins of equal width.

    Attributes:
        images: (BINS,) how many.
        probability: (BINS,) their mean probability; NaN in an empty bin.
        right: (BINS,) the share of right answers; NaN in an empty bin.
    """

    images: np.ndarray
    probability: np.ndarray
    right: np.ndarray

    def interval(self, place: int) -> tuple[float, float]:
        """95 % interval (Wilson's) of the share of right answers in one bin with images."""
        images = int(self.images[place])
        ends = binomtest(round(self.right[place] * images), images).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)


def calibration_bins(probability: np.ndarray, right: np.ndarray) -> CalibrationBins:
    """What the calibration error sums up, from probabilities and right or wrong answers (N,)."""
    means = binned_statistic(probability, [probability, right.astype(float)], bins=BINS, range=(0, 1)).statistic
    images = np.histogram(probability, bins=BINS, range=(0, 1))[0]
    return CalibrationBins(images=images, probability=means[0], right=means[1])
