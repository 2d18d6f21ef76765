import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.evaluation.confusion import confused_pairs, group_classes


def test_the_most_frequent_confusions_come_first():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 1, 0, 1, 1])
    confusion = np.zeros((3, 3), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    assert confused_pairs(confusion) == [(0, 1, 2), (2, 1, 2), (1, 0, 1), (2, 0, 1)]
    assert confused_pairs(np.diag(np.bincount(labels))) == []


@pytest.mark.parametrize("right", [0, 30])
def test_classes_that_are_confused_with_each_other_are_grouped(right):
    kind = np.arange(36) % 6  # six kinds of six classes, mixed up
    confusion = np.where(kind[:, None] == kind, 5, 0)
    np.fill_diagonal(confusion, right)
    groups = group_classes(confusion)
    assert sorted(tuple(kind[group]) for group in groups) == [(number,) * 6 for number in range(6)]


@given(st.integers(2, 70), st.integers(0, 2**32 - 1))
def test_every_class_is_in_one_group_and_no_group_is_large(classes, seed):
    rng = np.random.default_rng(seed)
    confusion = rng.poisson(rng.choice([0.01, 0.3, 5]), (classes, classes))
    groups = group_classes(confusion)
    assert sorted(np.concatenate(groups)) == list(range(classes))
    assert max(len(group) for group in groups) <= max(2, 1.5 * np.sqrt(classes) + 1)
