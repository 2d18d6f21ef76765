"""Comparison of training runs: scores, time, size, differing settings, and a test of the difference."""

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

from volo.csv_files import original_text
from volo.evaluation.classification import Evaluation
from volo.evaluation.report import PREDICTIONS_FILE, RESULTS_FILE
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.limits import is_number, parse_object, short_repr
from volo.models import VOLO, SegmentationModel
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, read_description
from volo.training.config import (
    METRICS_FILE,
    MONITORED_METRICS,
    RUN_CONFIG_FILE,
    TrainConfig,
    current_settings,
    monitored_metric,
)

#: Task → key in ``results.json`` and printed name of the scores that are compared.
_SCORE_NAMES = {"classification": Evaluation.score_names, "segmentation": SegmentationEvaluation.score_names}
#: Most seconds of an epoch; three years.
_LONGEST_EPOCH = 1e8
#: The setting that differs between all runs, and is not compared.
_OUTPUT = "output"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of a run folder.

    Attributes:
        name: name of the run in the comparison.
        folder: the run folder.
        settings: dotted name → value.
        rows: metrics of every finished epoch.
        results: scores of the best epoch's weights; None for an unfinished run.
        parameters: number of parameters of the model; None if the folder holds no model.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, float]]
    results: dict[str, Any] | None
    parameters: int | None

    @property
    def task(self) -> str:
        """The task of the run, ``classification`` or ``segmentation``."""
        return str(self.settings["task"])

    @property
    def state(self) -> str:
        """``finished``, or ``unfinished`` with the number of finished epochs."""
        return "finished" if self.results else f"unfinished: {len(self.rows)} of {self.settings['epochs']} epochs"

    @property
    def seconds(self) -> float:
        """The seconds of all epochs, validation included."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def best(self) -> dict[str, float] | None:
        """The metrics of the epoch with the highest validation score; None before the first."""
        return max(self.rows, key=lambda row: row[MONITORED_METRICS[self.task][0]], default=None)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """The paired comparison of two classifiers that were evaluated on the same images.

    Attributes:
        images: number of images.
        only_first: number of images that only the first classifier predicted correctly.
        only_second: number of images that only the second classifier predicted correctly.
        difference: top-1 of the second minus top-1 of the first, -1 to 1.
        interval: 95 % bootstrap interval of the difference.
        p_value: p-value of McNemar's exact test: the probability that two equally good classifiers differ at least
            this much because of the choice of images.
    """

    images: int
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison of training runs of one task.

    Attributes:
        runs: the runs, in the given order.
        settings: dotted name of each setting that differs → its value in each run.
        tests: test of each run except the first against the first; None where no test is possible.
        notes: remarks for the reader, one line each.
    """

    runs: tuple[RunRecord, ...]
    settings: dict[str, list[Any]]
    tests: tuple[PairedTest | None, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """Return the whole comparison as JSON, with the metrics of every epoch."""
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
    """Read run folders and compare their runs; classifiers are also tested against the first.

    Raises:
        ValueError: There are fewer than two folders, a folder is given twice, is not a run folder or is damaged, or
            the runs are of different tasks.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ValueError(
            f"give at least two different run folders to compare, not {', '.join(map(str, paths)) or 'none'}"
        )
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    runs = tuple(read_run(path, name) for path, name in zip(paths, names, strict=True))
    if other := next((run for run in runs if run.task != runs[0].task), None):
        raise ValueError(
            f"{runs[0].name} is a {runs[0].task} run and {other.name} a {other.task} run; compare runs of one task"
        )
    notes = [f"{run.name} is {run.state}; it has no final scores" for run in runs if not run.results]
    tests = _test_against_first(runs, notes)
    return Comparison(runs=runs, settings=_differing_settings(runs), tests=tuple(tests), notes=tuple(notes))


def read_run(folder: Path, name: str) -> RunRecord:
    """Read a run folder; ``name`` is the name of the run in the comparison.

    Raises:
        ValueError: The folder is not a run folder, or a file in it is damaged.
    """
    if not (folder / RUN_CONFIG_FILE).is_file():
        reason = "does not exist" if not folder.exists() else f"has no {RUN_CONFIG_FILE}"
        raise ValueError(f"{folder} is not a run folder: it {reason}; give run folders of volo train")
    settings = {**_flat(asdict(TrainConfig())), **_flat(current_settings(_read_json(folder / RUN_CONFIG_FILE)))}
    task = settings["task"]
    if task not in tuple(MONITORED_METRICS):
        raise ValueError(f"{folder / RUN_CONFIG_FILE} is damaged: its task is {short_repr(task)}")
    results = _read_results(folder / RESULTS_FILE, task) if (folder / RESULTS_FILE).is_file() else None
    rows = _read_rows(folder / METRICS_FILE, task) if (folder / METRICS_FILE).is_file() else []
    parameters = _parameters(folder / MODEL_CONFIG_FILE) if (folder / MODEL_CONFIG_FILE).is_file() else None
    return RunRecord(name=name, folder=folder, settings=settings, rows=rows, results=results, parameters=parameters)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_results(path: Path, task: str) -> dict[str, Any]:
    results = _read_json(path)
    intervals = results.get("intervals", {})
    if not isinstance(intervals, dict):
        raise ValueError(f"{path} is damaged: intervals must be the ends of each score, not {short_repr(intervals)}")
    for key in _SCORE_NAMES[task]:
        ends = intervals.get(key)
        in_pairs = ends is None or (isinstance(ends, list) and len(ends) == 2 and None not in ends)
        if not in_pairs or not all(_is_share(value) for value in [results.get(key), *(ends or [])]):
            raise ValueError(f"{path} is damaged: {key} is {short_repr(results.get(key))}, from {short_repr(ends)}")
    return results


def _is_share(value: object) -> bool:
    return value is None or is_number(value, 0, 1)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as one dictionary, dotted name → value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _read_rows(path: Path, task: str) -> list[dict[str, float]]:
    metric = MONITORED_METRICS[task][0]
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = [{key: _number(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
            for row in rows:
                for name, most in (("epoch", 1e9), (metric, 1), ("seconds", _LONGEST_EPOCH)):
                    if name in row and not is_number(row[name], 0, most):
                        raise ValueError(f"{name} is {row[name]}")
                _ = row["epoch"], row[metric]
        except KeyError as error:
            raise ValueError(f"{path} is damaged: an epoch has no {error}") from error
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return rows


def _number(text: str | list[str]) -> float:
    """Return the number in a cell; csv gives a list for the cells of a row that is too long."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{short_repr(text)} is not a number") from None


def _parameters(path: Path) -> int:
    description = read_description(path)
    if description.config is None:
        raise ValueError(f"{path} was not written by volo train: it has no architecture")
    with torch.device("meta"):  # shapes without memory for the weights
        segmentation = description.segmentation
        model = SegmentationModel(segmentation.config) if segmentation else VOLO(description.config)
    return sum(parameter.numel() for parameter in model.parameters())


def _differing_settings(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for run in runs for name in run.settings if name != _OUTPUT)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def _test_against_first(runs: Sequence[RunRecord], notes: list[str]) -> list[PairedTest | None]:
    """Test each run except the first against the first, and add a note wherever no test is possible."""
    if runs[0].task != "classification":
        notes.append(
            f"differences in {MONITORED_METRICS[runs[0].task][1]} are not tested: the test compares classifiers, "
            "image by image"
        )
        return [None] * (len(runs) - 1)
    first, *others = [_read_predictions(run, notes) for run in runs]
    tests: list[PairedTest | None] = []
    for run, second in zip(runs[1:], others, strict=True):
        if first and second and first.keys() != second.keys():
            notes.append(
                f"{runs[0].name} and {run.name} were evaluated on different images ({len(first)} and {len(second)}, "
                f"{len(first.keys() & second.keys())} of them the same): their scores differ for this reason too"
            )
            tests.append(None)
        else:
            tests.append(_test_pair(first, second) if first and second else None)
    return tests


#: (path, true class) of an image → whether its prediction is correct.
Predictions = dict[tuple[str, str], bool]


def _read_predictions(run: RunRecord, notes: list[str]) -> Predictions | None:
    path = run.folder / PREDICTIONS_FILE
    if run.results is None or not path.is_file():
        if run.results:
            notes.append(f"{run.name} has no {PREDICTIONS_FILE}, so it cannot be tested against other runs")
        return None
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            rows = csv.DictReader(file)
            cells = [(row["path"], row["true"], row["answer"]) for row in rows]
            if short := next((number for number, row in enumerate(cells, 1) if None in row), None):
                raise ValueError(f"its row {short} is too short")
            return {
                (os.path.abspath(image), original_text(name)): answer == "right"  # noqa: PTH100  # does not resolve links
                for image, name, answer in cells
            }
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it has no column {error}") from error
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _test_pair(first: Predictions, second: Predictions) -> PairedTest:
    gain = np.array([int(second[image]) - int(correct) for image, correct in first.items()])
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    interval = (0.0, 0.0)
    if better or worse:
        rng = np.random.default_rng(0)
        resampled = bootstrap((gain,), np.mean, n_resamples=1000, batch=50, method="percentile", rng=rng)
        interval = (float(resampled.confidence_interval.low), float(resampled.confidence_interval.high))
    return PairedTest(
        images=len(gain),
        only_first=worse,
        only_second=better,
        difference=float(gain.mean()),
        interval=interval,
        p_value=float(binomtest(better, better + worse).pvalue) if better or worse else 1.0,
    )


def table_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the comparison as rows of text: the name of a score or setting, and its value in each run."""
    runs = comparison.runs
    lasts = [run.rows[-1] if run.rows else None for run in runs]
    tests = [_test_text(test) for test in comparison.tests]
    return [
        ("state", [run.state for run in runs]),
        *(
            (name, [_score_text(run.results or {}, key) for run in runs])
            for key, name in _SCORE_NAMES[runs[0].task].items()
        ),
        (f"{MONITORED_METRICS[runs[0].task][1]} against {runs[0].name}", ["", *tests]),
        ("best epoch", [_epoch_text(run.best) for run in runs]),
        ("last epoch", [_epoch_text(last) for last in lasts]),
        ("training time", [str(timedelta(seconds=round(run.seconds))) if run.rows else _NOTHING for run in runs]),
        ("parameters", [f"{run.parameters / 1e6:.2f} M" if run.parameters else _NOTHING for run in runs]),
        *((name, [_value_text(value) for value in values]) for name, values in comparison.settings.items()),
    ]


_NOTHING = "–"


def _score_text(results: dict[str, Any], key: str) -> str:
    """Return a score in percent, with its interval on a second line."""
    value, ends = results.get(key), results.get("intervals", {}).get(key)
    if value is None:
        return _NOTHING
    return f"{value:.2%}" + (f"\n{100 * ends[0]:.2f} to {100 * ends[1]:.2f}" if ends else "")


def _test_text(test: PairedTest | None) -> str:
    if test is None:
        return _NOTHING
    low, high = (100 * end for end in test.interval)
    return f"{100 * test.difference:+.2f} points\n{low:+.2f} to {high:+.2f}\np = {test.p_value:.2g}"


def _epoch_text(row: dict[str, float] | None) -> str:
    return _NOTHING if row is None else f"{row[monitored_metric(row)[0]]:.2%} (epoch {row['epoch']:.0f})"


def _value_text(value: Any) -> str:
    return _NOTHING if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)
