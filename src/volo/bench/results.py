"""What measured calls say: percentiles, throughput with its interval, who is how much faster; as rows and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import bootstrap

from volo.bench.runner import Measured

#: Percentiles of the time of a call that are told.
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median over rounds, and its 95 % interval by the bootstrap.

    Rounds are drawn, not calls: those of one round are alike, and would make the interval too narrow.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, kw_only=True)
class Group:
    """What was measured together, and so can be compared: one batch size and number of threads.

    Attributes:
        batch: images a call.
        threads: to compute with.
        measured: of every competitor.
    """

    batch: int
    threads: int
    measured: tuple[Measured, ...]

    @property
    def reference(self) -> Measured:
        """To whom all are compared: the first peer, where there is one."""
        return next((each for each in self.measured if each.contestant.peer), self.measured[0])

    @property
    def fastest(self) -> tuple[Measured, Measured] | None:
        """Of the models and of the peers, the fastest that compute in float32; None where one side has none."""
        full = [each for each in self.measured if each.contestant.model.float32]
        sides = [[each for each in full if each.contestant.peer is peer] for peer in (False, True)]
        if not all(sides):
            return None
        ours, theirs = (max(side, key=lambda each: throughput(each).value) for side in sides)
        return ours, theirs


def groups(measured: Iterable[Measured]) -> list[Group]:
    """The measurements, by what was measured together."""
    together: dict[tuple[int, int], list[Measured]] = {}
    for each in measured:
        together.setdefault((each.batch, each.threads), []).append(each)
    return [Group(batch=batch, threads=threads, measured=tuple(all_)) for (batch, threads), all_ in together.items()]


def throughput(measured: Measured) -> Estimate:
    """Images per second."""
    return _estimate(measured.batch / _seconds(measured))


def speedup(measured: Measured, other: Measured) -> Estimate:
    """How many times as fast as ``other``, round by round: what slowed one round slowed both."""
    return _estimate(_seconds(other) / _seconds(measured))


def latencies(measured: Measured) -> list[float]:
    """:data:`PERCENTILES` of the milliseconds of a call, over all calls."""
    return [float(value) for value in 1000 * np.percentile(np.concatenate(measured.rounds), PERCENTILES)]


def to_json(together: Sequence[Group], facts: dict[str, str]) -> str:
    """All of it, with every call."""
    rows = [
        {
            "batch": heat.batch,
            "threads": heat.threads,
            "model": each.contestant.model.name,
            "size": each.contestant.model.size,
            "runtime": each.contestant.runtime,
            "peer": each.contestant.peer,
            "images_per_second": asdict(throughput(each)),
            "times_as_fast_as": {heat.reference.contestant.name: asdict(speedup(each, heat.reference))},
            "milliseconds": dict(zip([f"p{number}" for number in PERCENTILES], latencies(each), strict=True)),
            "peak_bytes": each.peak,
            "seconds_to_first_result": each.start,
            "seconds_of_every_call": each.rounds,
        }
        for heat in together
        for each in heat.measured
    ]
    return (
        json.dumps({"machine": facts, "fastest": [_fastest(heat) for heat in together], "rows": rows}, indent=2) + "\n"
    )


def _fastest(heat: Group) -> dict | None:
    if heat.fastest is None:
        return None
    ours, theirs = heat.fastest
    return {
        "batch": heat.batch,
        "threads": heat.threads,
        "model": ours.contestant.name,
        "peer": theirs.contestant.name,
        "times_as_fast": asdict(speedup(ours, theirs)),
    }


def _seconds(measured: Measured) -> np.ndarray:
    """The median call of every round."""
    return np.array([np.median(calls) for calls in measured.rounds])


def _estimate(rounds: np.ndarray) -> Estimate:
    draw = np.random.default_rng(0)
    ends = bootstrap((rounds,), np.median, n_resamples=2000, method="percentile", rng=draw).confidence_interval
    return Estimate(value=float(np.median(rounds)), low=float(ends.low), high=float(ends.high))
