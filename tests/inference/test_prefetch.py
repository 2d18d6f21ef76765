"""Work in threads: in order, bounded, and stopped together with its consumer."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volo.inference.prefetch import PixelGate, map_in_threads


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


@settings(deadline=None)
@given(sides=st.lists(st.integers(1, 12), min_size=1, max_size=12), most=st.integers(1, 60))
def test_threads_hold_no_more_pixels_than_allowed_or_one_image(sides, most):
    gate, lock, held, excess = PixelGate(most), threading.Lock(), [], []

    def work(side):
        with gate.place() as wait:
            assert wait((side, side)) == 1.0
            with lock:
                held.append(side * side)
                if len(held) > 1 and sum(held) > most:
                    excess.append(list(held))
            with lock:
                held.remove(side * side)

    list(map_in_threads(work, sides, count=4))
    assert not excess
    assert gate.used == 0


def test_the_room_of_an_image_that_fails_is_given_back():
    gate = PixelGate(10)
    with pytest.raises(KeyError), gate.place() as wait:
        {}[wait((3, 3))]
    assert gate.used == 0
    with gate.place() as wait:  # one that needs more than there is gets it when it is alone
        wait((100, 100))
