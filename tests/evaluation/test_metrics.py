"""Scores, compared with torchmetrics on all probabilities and with scores counted by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_recall,
)

from volo.evaluation.metrics import (
    BINS,
    calibration_bins,
    chance_calibration_error,
    class_scores,
    confidence_intervals,
    overall_scores,
)


def test_class_scores_are_those_counted_by_hand_and_nan_if_undefined():
    # Classes: two of three found and one too many; never there but named once; there but never named; nowhere.
    labels, predicted = np.array([0, 0, 0, 2, 2]), np.array([0, 0, 1, 0, 1])
    scores = class_scores(labels, predicted, 4)
    assert scores.images.tolist() == [3, 0, 2, 0]
    np.testing.assert_allclose(scores.precision, [2 / 3, 0, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scores.recall, [2 / 3, np.nan, 0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scores.f1, [2 / 3, np.nan, 0, np.nan], rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 5, 6, 40])
def test_scores_from_the_five_best_classes_equal_those_from_all_probabilities(classes):
    generator = torch.Generator().manual_seed(classes)
    probabilities = (2 * torch.randn(500, classes, generator=generator)).softmax(dim=1)
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]  # every class has images
    best = probabilities.topk(min(5, classes))
    scores = overall_scores(labels.numpy(), best.indices.numpy(), best.values[:, 0].clone().numpy(), classes)
    top1 = multiclass_accuracy(probabilities, labels, classes, "micro")
    assert scores["top1"] == pytest.approx(float(top1), abs=1e-6)
    assert scores["top5"] == (
        None
        if classes <= 5
        else pytest.approx(float(multiclass_accuracy(probabilities, labels, classes, "micro", top_k=5)), abs=1e-6)
    )
    recall = float(multiclass_recall(probabilities, labels, classes, average="macro"))
    assert scores["balanced_accuracy"] == pytest.approx(recall, abs=1e-6)
    error = float(multiclass_calibration_error(probabilities, labels, classes, n_bins=BINS))
    assert scores["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_the_bins_sum_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    probability, right = rng.random(300).astype(np.float32), rng.random(300) < 0.4
    bins = calibration_bins(probability, right)
    assert bins.images.sum() == 300
    labels, ranked = np.zeros(300, int), np.where(right, 0, 1)[:, None]
    error = np.nansum(bins.images * abs(bins.probability - bins.right)) / 300
    assert overall_scores(labels, ranked, probability, 2)["calibration_error"] == pytest.approx(error, abs=1e-5)
    for place in range(BINS):
        low, high = bins.interval(place)
        assert low <= bins.right[place] <= high


def shares(right):
    """Return a scores function with the accuracy only."""
    return lambda rows: {"top1": float(right[rows].mean())}


def test_the_interval_of_a_share_is_about_that_of_the_normal_distribution():
    right = np.arange(1000) < 800
    low, high = confidence_intervals(shares(right), 1000)["top1"]
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == (pytest.approx(0.8 - spread, abs=0.004), pytest.approx(0.8 + spread, abs=0.004))


def test_intervals_are_the_same_twice_and_one_image_has_none():
    right = np.random.default_rng(0).random(50) < 0.5
    assert confidence_intervals(shares(right), 50) == confidence_intervals(shares(right), 50)
    assert confidence_intervals(shares(right), 1) == {"top1": None}


def test_a_calibrated_model_lies_below_the_chance_calibration_error_and_another_above():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.3, 1.0, 400).astype(np.float32)
    chance = chance_calibration_error(probability)
    labels = np.zeros(400, int)

    def error(likely):
        ranked = np.where(rng.random(400) < likely, 0, 1)[:, None]
        return overall_scores(labels, ranked, probability, 2)["calibration_error"]

    below = sum(error(probability) < chance for _ in range(100))
    assert 87 <= below <= 100  # 95 of 100 on average
    assert all(error(probability * 0.7) > chance for _ in range(20))
