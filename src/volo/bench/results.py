"""Benchmark statistics: latency percentiles, and throughput and speed-up with confidence intervals; also as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import bootstrap

from volo.bench.runner import Measured

#: Percentiles of the latency that are reported.
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median over rounds with its 95 % bootstrap interval.

    The bootstrap resamples rounds, not calls: calls of one round are correlated, and would make the interval too
    narrow.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Measurements that can be compared: the same batch size and number of threads, measured in the same rounds.

    Attributes:
        batch: images per call.
        threads: number of CPU threads.
        measured: one for each candidate.
    """

    batch: int
    threads: int
    measured: tuple[Measured, ...]

    @property
    def reference(self) -> Measured:
        """The measurement that speed-ups are relative to: the first baseline, or else the first candidate."""
        return next((each for each in self.measured if each.candidate.baseline), self.measured[0])

    @property
    def fastest(self) -> tuple[Measured, Measured] | None:
        """The fastest float32 model and the fastest float32 baseline; None where one of the two is missing."""
        full = [each for each in self.measured if each.candidate.model.float32]
        sides = [[each for each in full if each.candidate.baseline is baseline] for baseline in (False, True)]
        if not all(sides):
            return None
        model, baseline = (max(side, key=lambda each: throughput(each).value) for side in sides)
        return model, baseline


def groups(measured: Iterable[Measured]) -> list[Group]:
    """Return the measurements grouped by batch size and number of threads."""
    by_setting: dict[tuple[int, int], list[Measured]] = {}
    for each in measured:
        by_setting.setdefault((each.batch, each.threads), []).append(each)
    return [Group(batch=batch, threads=threads, measured=tuple(all_)) for (batch, threads), all_ in by_setting.items()]


def throughput(measured: Measured) -> Estimate:
    """Return the images per second."""
    return _estimate(measured.batch / _seconds(measured))


def speedup(measured: Measured, other: Measured) -> Estimate:
    """Return the throughput of ``measured`` divided by that of ``other``.

    The ratio is taken round by round, since a disturbance of a round slows both.
    """
    return _estimate(_seconds(other) / _seconds(measured))


def latencies(measured: Measured) -> list[float]:
    """Return the :data:`PERCENTILES` of the latency in milliseconds, over all calls of all rounds."""
    return [float(value) for value in 1000 * np.percentile(np.concatenate(measured.rounds), PERCENTILES)]


def to_json(grouped: Sequence[Group], facts: dict[str, str]) -> str:
    """Return all results as JSON text, with the seconds of every call.

    Args:
        grouped: the groups of measurements.
        facts: what :func:`volo.bench.machine.machine` returned.
    """
    rows = [
        {
            "batch": group.batch,
            "threads": group.threads,
            "model": each.candidate.model.name,
            "size": each.candidate.model.size,
            "runtime": each.candidate.runtime,
            "peer": each.candidate.baseline,
            "images_per_second": asdict(throughput(each)),
            "times_as_fast_as": {group.reference.candidate.name: asdict(speedup(each, group.reference))},
            "milliseconds": dict(zip([f"p{number}" for number in PERCENTILES], latencies(each), strict=True)),
            "peak_bytes": each.peak,
            "seconds_to_first_result": each.start,
            "seconds_of_every_call": each.rounds,
        }
        for group in grouped
        for each in group.measured
    ]
    fastest = [_fastest(group) for group in grouped]
    return json.dumps({"machine": facts, "fastest": fastest, "rows": rows}, indent=2) + "\n"


def _fastest(group: Group) -> dict | None:
    if group.fastest is None:
        return None
    model, baseline = group.fastest
    return {
        "batch": group.batch,
        "threads": group.threads,
        "model": model.candidate.name,
        "peer": baseline.candidate.name,
        "times_as_fast": asdict(speedup(model, baseline)),
    }


def _seconds(measured: Measured) -> np.ndarray:
    """Return the median seconds of a call, for each round."""
    return np.array([np.median(calls) for calls in measured.rounds])


def _estimate(rounds: np.ndarray) -> Estimate:
    random = np.random.default_rng(0)
    ends = bootstrap((rounds,), np.median, n_resamples=2000, method="percentile", rng=random).confidence_interval
    return Estimate(value=float(np.median(rounds)), low=float(ends.low), high=float(ends.high))
