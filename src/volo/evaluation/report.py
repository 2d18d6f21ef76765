"""An evaluation as files. Needs the extra ``volo[train]``."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from volo.data import ImageSet
from volo.evaluation.classification import Evaluation
from volo.evaluation.plots import Confused, draw_confusion, draw_mistakes, draw_reliability
from volo.files import atomic_write, check_writable_folder, created_folder

RESULTS_FILE = "results.json"
PREDICTIONS_FILE = "predictions.csv"
#: Confusions in results.json.
_MOST_PAIRS = 20


def write_evaluation(
    evaluation: Evaluation, images: ImageSet, folder: Path, *, more: dict[str, Any] | None = None
) -> None:
    """Write scores, predictions and pictures into ``folder``, all of them or none.

    ``results.json`` (scores, their intervals, the commonest confusions), ``per_class.csv``, ``predictions.csv``,
    ``confusion.png``, ``reliability.png`` and ``mistakes.png``.

    Args:
        evaluation: what to write.
        images: what was judged.
        folder: made where there is none.
        more: further entries of ``results.json``.

    Raises:
        ValueError: the folder is a file, or not writable.
    """
    check_writable_folder(folder)
    names = evaluation.class_names
    confused = [
        {"true": names[true], "predicted": names[predicted], "images": count}
        for true, predicted, count in evaluation.confused[:_MOST_PAIRS]
    ]
    results = {**evaluation.summary(), "confused": confused, **(more or {})}
    with created_folder(folder), ExitStack() as stack:  # the files get their names when all of them are written

        def path(name: str) -> Path:
            return stack.enter_context(atomic_write(folder / name))

        path(RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        write_csv(path("per_class.csv"), _CLASS_COLUMNS, _class_rows(evaluation))
        ranks = [f"top_{rank}" for rank in range(2, evaluation.ranked.shape[1] + 1)]
        write_csv(path(PREDICTIONS_FILE), (*_PREDICTION_COLUMNS, *ranks), _prediction_rows(evaluation, images))
        draw_confusion(evaluation, path("confusion.png"))
        draw_reliability(evaluation, path("reliability.png"))
        draw_mistakes(evaluation, images, path("mistakes.png"))


_CLASS_COLUMNS = ("class", "images", "precision", "recall", "f1", "mistaken_for", "mistaken", "group")


def _class_rows(evaluation: Evaluation) -> Iterable[Sequence[Any]]:
    """Scores of every class, what it is mistaken for most often and how often, and its group in the picture."""
    names, classes, mistaken = evaluation.class_names, evaluation.classes, most_mistaken(evaluation)
    group = {int(index): number for number, members in enumerate(evaluation.groups, 1) for index in members}
    for index, name in enumerate(names):
        scores = (values[index] for values in (classes.precision, classes.recall, classes.f1))
        other, count = mistaken.get(index, (None, 0))
        yield (
            name,
            classes.images[index],
            *("" if math.isnan(score) else f"{score:.6f}" for score in scores),
            "" if other is None else names[other],
            count,
            group[index],
        )


def most_mistaken(evaluation: Confused) -> dict[int, tuple[int, int]]:
    """Of every class with mistakes, the class that it is taken for most often, and how often."""
    found: dict[int, tuple[int, int]] = {}
    for true, predicted, count in evaluation.confused:
        found.setdefault(true, (predicted, count))
    return found


_PREDICTION_COLUMNS = ("path", "true", "predicted", "answer", "probability", "true_probability")


def _prediction_rows(evaluation: Evaluation, images: ImageSet) -> Iterable[Sequence[Any]]:
    names = np.array(evaluation.class_names, dtype=object)
    for place, index in enumerate(evaluation.indices):
        predicted, *others = names[evaluation.ranked[place]]
        yield (
            images.name(int(index)),
            names[evaluation.labels[place]],
            predicted,
            "right" if evaluation.right[place] else "wrong",
            f"{evaluation.probability[place]:.6f}",
            f"{evaluation.label_probability[place]:.6f}",
            *others,
        )


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a line of names."""
    # File names that are no UTF-8 are written as the bytes that they are.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
