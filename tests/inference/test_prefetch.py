"""Work in threads: in order, bounded, and stopped together with its consumer."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.inference.prefetch import map_in_threads


@given(items=st.lists(st.integers(), max_size=20), count=st.integers(1, 7), overlap=st.booleans())
def test_results_come_in_the_order_of_the_items(items, count, overlap):
    assert list(map_in_threads(str, iter(items), count=count, overlap=overlap)) == list(map(str, items))


@pytest.mark.parametrize(("overlap", "most"), [(False, 4), (True, 8)])
def test_the_number_of_items_taken_in_advance_is_bounded(overlap, most):
    taken = []
    items = (taken.append(number) or number for number in range(100))
    results = map_in_threads(lambda number: number, items, count=4, overlap=overlap)
    for number in range(20):
        assert next(results) == number
        assert len(taken) <= number // 4 * 4 + most
    results.close()


def test_the_items_of_a_chunk_are_worked_on_at_the_same_time():
    meeting = threading.Barrier(2)
    assert list(map_in_threads(lambda _: meeting.wait(timeout=20) in (0, 1), range(4), count=2)) == [True] * 4


def test_an_error_is_raised_in_the_place_of_its_result_and_ends_the_work():
    before = set(threading.enumerate())
    results = map_in_threads(lambda number: 1 // number, [2, 1, 0, 3], count=2)
    assert [next(results), next(results)] == [0, 1]
    assert set(threading.enumerate()) > before
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert set(threading.enumerate()) <= before
