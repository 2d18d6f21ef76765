"""Statistics, plots and JSON of measured calls."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.bench.candidates import Candidate
from volo.bench.models import find_model
from volo.bench.picture import draw_pareto, draw_speed, pareto_front
from volo.bench.published import BASELINES, TOP1, VOLOS, published_top1
from volo.bench.results import groups, latencies, speedup, throughput, to_json
from volo.bench.runner import Measured

VOLO, BASELINE = find_model("volo_micro_32"), find_model("volo_tiny_32")


def measured(rounds, *, baseline=False, batch=2, runtime="pytorch", model=None):
    candidate = Candidate(model or (BASELINE if baseline else VOLO), runtime, baseline)
    return Measured(candidate=candidate, batch=batch, threads=1, rounds=rounds, start=1.0, peak=2**28)


def test_throughput_is_of_the_median_call_and_lies_in_its_interval():
    draw = np.random.default_rng(0)
    few, many = (measured(draw.normal(0.1, 0.01, (rounds, 3)).tolist()) for rounds in (5, 50))
    for each in (few, many):
        estimate = throughput(each)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.value == pytest.approx(20, rel=0.1)
    assert throughput(many).high - throughput(many).low < throughput(few).high - throughput(few).low


def test_a_speedup_is_taken_round_by_round_so_that_a_slower_machine_changes_nothing():
    pace = [1.0, 1.3, 0.8, 2.0, 1.1, 0.9]
    fast = measured([[0.1 * factor] for factor in pace])
    slow = measured([[0.15 * factor] for factor in pace], baseline=True)
    estimate = speedup(fast, slow)
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((1.5, 1.5, 1.5))
    assert throughput(fast).high > 1.5 * throughput(fast).low


def test_percentiles_are_of_all_calls_in_milliseconds():
    each = measured([[number / 1000 for number in range(1, 51)], [number / 1000 for number in range(51, 102)]])
    assert latencies(each) == pytest.approx([51, 91, 100])


def test_the_fastest_model_is_compared_with_the_fastest_baseline_and_int8_is_left_out():
    rows = [measured([[pace]] * 3) for pace in (0.2, 0.1)]
    rows += [measured([[pace]] * 3, baseline=True) for pace in (0.3, 0.15)]
    rapid = measured([[0.01]] * 3, model=find_model("volo_d0_224"))
    rapid.candidate.model.float32 = False
    (group,) = groups([*rows, rapid])
    assert group.fastest == (rows[1], rows[3])
    assert group.reference is rows[2]
    figures = json.loads(to_json([group], {"cpu": "one"}))
    assert figures["fastest"][0]["times_as_fast"]["value"] == pytest.approx(1.5)
    assert [row["peak_bytes"] for row in figures["rows"]] == [2**28] * 5


def test_different_batch_sizes_are_not_compared():
    assert [group.batch for group in groups([measured([[1.0]] * 3, batch=batch) for batch in (1, 8, 1)])] == [1, 8]
    assert groups([measured([[1.0]] * 3)])[0].fastest is None


@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(50, 90)), min_size=1, max_size=12))
def test_no_other_point_beats_one_of_the_pareto_front(points):
    front = pareto_front(points)
    for point in points:
        beaten = any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in points)
        assert (point in front) == (not beaten)


def test_plots_are_drawn(tmp_path):
    rows = [measured([[0.2], [0.21], [0.2]]), measured([[0.1], [0.11], [0.1]], runtime="compile")]
    (group,) = groups([*rows, measured([[0.3]] * 3, baseline=True)])
    draw_speed([group, group], tmp_path / "speed.png")
    d1, d2 = (measured([[pace]] * 3, model=find_model(f"volo_d{size}_224")) for size, pace in ((1, 0.1), (2, 0.2)))
    draw_pareto(groups([d1, d2])[0], tmp_path / "pareto.png")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("speed.png", "pareto.png"))


def test_published_accuracy_is_by_the_size_it_was_published_for():
    assert published_top1("volo_d1_224") == published_top1("timm:volo_d1_224") == 84.148
    assert {*VOLOS, *BASELINES} <= set(TOP1)
    timm = pytest.importorskip("timm")
    for name, (pixels, _) in TOP1.items():
        if name.startswith("timm:"):
            assert timm.models.get_pretrained_cfg(name.removeprefix("timm:")).input_size[-1] == pixels
