"""Runs side by side: scores, time, size, settings that differ, and whether a difference means something."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, bootstrap

from volo.evaluation.metrics import SCORE_NAMES
from volo.evaluation.report import PREDICTIONS_FILE, RESULTS_FILE
from volo.evaluation.segmentation import SCORE_NAMES as SEGMENTATION_SCORE_NAMES
from volo.models import VOLO, SegmentationModel
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, described_config, read_description
from volo.training.config import METRICS_FILE, MONITORED_METRICS, RUN_CONFIG_FILE, TrainConfig, monitored_metric

#: Task → the scores of ``results.json`` that are laid side by side, and what they are called.
_SCORE_NAMES = {"classification": SCORE_NAMES, "segmentation": SEGMENTATION_SCORE_NAMES}
#: The one setting that differs in all runs.
_PLACE = "output"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run folder tells.

    Attributes:
        name: what it is called beside the others.
        folder: where it lies.
        settings: by dotted name.
        rows: figures of every epoch done.
        results: scores of the best epoch's weights; None where the run did not come to its end.
        parameters: of the model; None before there is one.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, float]]
    results: dict[str, Any] | None
    parameters: int | None

    @property
    def task(self) -> str:
        """What it learns."""
        return str(self.settings["task"])

    @property
    def state(self) -> str:
        """Whether it came to its end."""
        return "finished" if self.results else f"unfinished: {len(self.rows)} of {self.settings['epochs']} epochs"

    @property
    def seconds(self) -> float:
        """The time of all epochs, validation included."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def best(self) -> dict[str, float] | None:
        """The epoch with the highest score on the validation images."""
        return max(self.rows, key=lambda row: row[MONITORED_METRICS[self.task][0]], default=None)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two runs judged on the same images.

    Attributes:
        images: how many.
        only_first: images that the first run alone named right.
        only_second: images that the second run alone named right.
        difference: top-1 of the second less that of the first.
        interval: 95 % bootstrap interval of the difference.
        p_value: McNemar's exact test: how likely two runs that are equally good differ as much as this by the
            choice of images.
    """

    images: int
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: in the order in which they were named.
        settings: those that differ, by dotted name, one value for each run.
        tests: of each run but the first against the first; None where they cannot be paired.
        notes: what a reader should know, one line each.
    """

    runs: tuple[RunRecord, ...]
    settings: dict[str, list[Any]]
    tests: tuple[PairedTest | None, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """All of it."""
        runs = [
            {
                "name": run.name,
                "folder": str(run.folder),
                "state": run.state,
                "results": run.results,
                "best_epoch": run.best,
                "last_epoch": run.rows[-1] if run.rows else None,
                "seconds": round(run.seconds, 1),
                "parameters": run.parameters,
                "epochs": run.rows,
            }
            for run in self.runs
        ]
        tests = [test and asdict(test) for test in self.tests]
        values = {"runs": runs, "settings": self.settings, "against_the_first": tests, "notes": self.notes}
        return json.dumps(values, indent=2) + "\n"


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Read run folders and lay them side by side.

    Raises:
        ValueError: fewer than two folders, one named twice, one that holds no run or a damaged one, or runs of
            different tasks.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ValueError(f"name at least two different runs to compare, not {', '.join(map(str, paths)) or 'none'}")
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    runs = tuple(read_run(path, name) for path, name in zip(paths, names, strict=True))
    if other := next((run for run in runs if run.task != runs[0].task), None):
        raise ValueError(
            f"{runs[0].name} is a run of {runs[0].task} and {other.name} one of {other.task}: compare runs of one task"
        )
    notes = [f"{run.name} is {run.state}; it has no final scores" for run in runs if not run.results]
    answers = [_read_answers(run, notes) for run in runs]
    tests: list[PairedTest | None] = []
    for run, theirs in zip(runs[1:], answers[1:], strict=True):
        if answers[0] and theirs and answers[0].keys() != theirs.keys():
            notes.append(
                f"{runs[0].name} and {run.name} were judged on different images ({len(answers[0])} and {len(theirs)}, "
                f"{len(answers[0].keys() & theirs.keys())} of them the same): their scores differ by these too"
            )
            tests.append(None)
        else:
            tests.append(_test(answers[0], theirs) if answers[0] and theirs else None)
    return Comparison(runs=runs, settings=_differing(runs), tests=tuple(tests), notes=tuple(notes))


def read_run(folder: Path, name: str) -> RunRecord:
    """Read what a run folder tells, to be called ``name`` beside others.

    Raises:
        ValueError: it holds no run, or a damaged one.
    """
    if not (folder / RUN_CONFIG_FILE).is_file():
        reason = "does not exist" if not folder.exists() else f"has no {RUN_CONFIG_FILE}"
        raise ValueError(f"{folder} is no run: it {reason}; give folders that volo train made")
    settings = {**_flat(asdict(TrainConfig())), **_flat(_read_json(folder / RUN_CONFIG_FILE))}
    results = _read_json(folder / RESULTS_FILE) if (folder / RESULTS_FILE).is_file() else None
    rows = _read_rows(folder / METRICS_FILE) if (folder / METRICS_FILE).is_file() else []
    parameters = _parameters(folder / MODEL_CONFIG_FILE) if (folder / MODEL_CONFIG_FILE).is_file() else None
    return RunRecord(name=name, folder=folder, settings=settings, rows=rows, results=results, parameters=parameters)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold settings or scores by name")
    return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _read_rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
            for row in rows:
                _ = row["epoch"], monitored_metric(row)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return rows


def _parameters(path: Path) -> int:
    description = read_description(path)
    assert description.config is not None  # what a run writes has one
    with torch.device("meta"):  # shapes alone
        segments = description.segmentation is not None
        model = SegmentationModel(described_config(description)) if segments else VOLO(description.config)
    return sum(parameter.numel() for parameter in model.parameters())


def _differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for run in runs for name in run.settings if name != _PLACE)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


#: (path, true class) → whether the answer was right.
Answers = dict[tuple[str, str], bool]


def _read_answers(run: RunRecord, notes: list[str]) -> Answers | None:
    path = run.folder / PREDICTIONS_FILE
    if run.results is None or not path.is_file():
        if run.results:
            notes.append(f"{run.name} has no {PREDICTIONS_FILE}, so its difference to others cannot be tested")
        return None
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            rows = csv.DictReader(file)
            return {(os.path.abspath(row["path"]), row["true"]): row["answer"] == "right" for row in rows}  # noqa: PTH100  # links are kept
        except (KeyError, TypeError, csv.Error) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _test(first: Answers, second: Answers) -> PairedTest:
    gain = np.array([int(second[image]) - int(right) for image, right in first.items()])
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    interval = (0.0, 0.0)
    if better or worse:
        rng = np.random.default_rng(0)
        drawn = bootstrap((gain,), np.mean, n_resamples=1000, batch=50, method="percentile", rng=rng)
        interval = (float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
    return PairedTest(
        images=len(gain),
        only_first=worse,
        only_second=better,
        difference=float(gain.mean()),
        interval=interval,
        p_value=float(binomtest(better, better + worse).pvalue) if better or worse else 1.0,
    )


def table_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """The comparison as text: a name and a value of each run; scores and figures, then the settings that differ."""
    runs = comparison.runs
    lasts = [run.rows[-1] if run.rows else None for run in runs]
    tested = [_tested(test) for test in comparison.tests]
    return [
        ("state", [run.state for run in runs]),
        *((name, [_score(run.results or {}, key) for run in runs]) for key, name in _SCORE_NAMES[runs[0].task].items()),
        (f"top-1 against {runs[0].name}", ["", *tested]),
        ("best epoch", [_epoch(run.best) for run in runs]),
        ("last epoch", [_epoch(last) for last in lasts]),
        ("training time", [str(timedelta(seconds=round(run.seconds))) if run.rows else _NOTHING for run in runs]),
        ("parameters", [f"{run.parameters / 1e6:.2f} M" if run.parameters else _NOTHING for run in runs]),
        *((name, [_value(value) for value in values]) for name, values in comparison.settings.items()),
    ]


_NOTHING = "–"


def _score(results: dict[str, Any], key: str) -> str:
    """A score, and its interval on the next line."""
    value, ends = results.get(key), results.get("intervals", {}).get(key)
    if value is None:
        return _NOTHING
    return f"{value:.2%}" + (f"\n{100 * ends[0]:.2f} to {100 * ends[1]:.2f}" if ends else "")


def _tested(test: PairedTest | None) -> str:
    if test is None:
        return _NOTHING
    low, high = (100 * end for end in test.interval)
    return f"{100 * test.difference:+.2f} points\n{low:+.2f} to {high:+.2f}\np = {test.p_value:.2g}"


def _epoch(row: dict[str, float] | None) -> str:
    return _NOTHING if row is None else f"{row[monitored_metric(row)[0]]:.2%} (epoch {row['epoch']:.0f})"


def _value(value: Any) -> str:
    return _NOTHING if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)
