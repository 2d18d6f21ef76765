"""Class imbalance: the ratio, the warning and the class weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.data.classification.class_balance import class_counts, class_weights, imbalance, imbalance_warning

COUNTS = st.lists(st.integers(1, 100_000), min_size=1, max_size=20).map(np.array)


def test_counts_include_classes_without_images():
    assert class_counts([2, 0, 2], 4).tolist() == [1, 0, 2, 0]
    assert imbalance(np.array([3, 0])) == np.inf


def test_a_tenfold_imbalance_gives_a_warning():
    assert imbalance_warning(np.array([99, 50, 10]), ("a", "b", "c")) is None
    warning = imbalance_warning(np.array([50, 1000, 100]), ("cat", "dog", "emu"))
    assert warning == "class 'dog' has 20 times as many images as 'cat' (1,000 and 50)"


@given(COUNTS, st.sampled_from(["inverse", "effective"]), st.floats(0, 0.99999))
def test_weights_average_one_and_never_favor_the_larger_class(counts, balance, beta):
    weights = class_weights(counts, balance, beta)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert (np.diff(weights[np.argsort(counts)]) <= 1e-5).all()


@given(COUNTS)
def test_effective_numbers_lie_between_no_weights_and_the_inverse(counts):
    np.testing.assert_allclose(class_weights(counts, "effective", 0.0), 1, rtol=1e-6)
    nearly = class_weights(counts, "effective", 1 - 1e-9)
    np.testing.assert_allclose(nearly, class_weights(counts, "inverse", 0), rtol=1e-3)
    np.testing.assert_allclose(class_weights(counts, "inverse", 0) * counts, (1 / np.mean(1 / counts)), rtol=1e-5)


def test_without_balancing_there_are_no_weights():
    assert class_weights(np.array([1, 2]), "none", 0.9) is None
