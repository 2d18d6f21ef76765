"""Files about an evaluation of either task. Needs the extra ``volo[train]``."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from volo.csv_files import path_cell, write_csv
from volo.data import ImageSet, MaskedImages, hex_color
from volo.evaluation.base import BaseEvaluation
from volo.evaluation.classification import Evaluation
from volo.evaluation.plots import draw_confusion, draw_mistakes, draw_reliability
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.evaluation.segmentation_plots import draw_worst
from volo.files import atomic_write, check_writable_folder, created_folder

RESULTS_FILE = "results.json"
PREDICTIONS_FILE, IMAGE_SCORES_FILE = "predictions.csv", "per_image.csv"
#: Task of the model → the names of all files of an evaluation.
EVALUATION_FILES = {
    "classification": (
        *(RESULTS_FILE, "per_class.csv", PREDICTIONS_FILE),
        *("confusion.png", "reliability.png", "mistakes.png"),
    ),
    "segmentation": (RESULTS_FILE, "per_class.csv", IMAGE_SCORES_FILE, "confusion.png", "worst.png"),
}
#: Number of confusions in ``results.json``.
_MOST_PAIRS = 20

#: Names of files, each with the function that writes the file to a path.
_Files = list[tuple[str, Callable[[Path], None]]]


def write_evaluation(
    evaluation: Evaluation | SegmentationEvaluation,
    images: ImageSet | MaskedImages,
    folder: Path,
    *,
    more: dict[str, Any] | None = None,
) -> None:
    """Write scores, tables and plots into ``folder``, either all files or none.

    Classification: ``results.json`` (scores, their intervals, the most frequent confusions), ``per_class.csv``,
    ``predictions.csv``, ``confusion.png``, ``reliability.png`` and ``mistakes.png``. Segmentation: ``results.json``,
    ``per_class.csv``, ``per_image.csv``, ``confusion.png`` and ``worst.png``.

    Args:
        evaluation: the evaluation to write.
        images: the images that were evaluated.
        folder: target folder, created if it does not exist.
        more: additional entries for ``results.json``.

    Raises:
        ValueError: The folder is a file, or is not writable.
    """
    check_writable_folder(folder)
    results = evaluation.summary()
    if isinstance(evaluation, SegmentationEvaluation):
        assert isinstance(images, MaskedImages)
        files = _segmentation_files(evaluation, images)
    else:
        assert not isinstance(images, MaskedImages)
        files = _classification_files(evaluation, images)
        results["confused"] = _frequent_confusions(evaluation)
    results |= more or {}
    # The temporary files are renamed when the stack is left, after all of them have been written.
    with created_folder(folder), ExitStack() as stack:
        temporary = stack.enter_context(atomic_write(folder / RESULTS_FILE))
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for name, write in files:
            write(stack.enter_context(atomic_write(folder / name)))


def _classification_files(evaluation: Evaluation, images: ImageSet) -> _Files:
    ranks = [f"top_{rank}" for rank in range(2, evaluation.ranked.shape[1] + 1)]
    columns = (*_PREDICTION_COLUMNS, *ranks)
    return [
        ("per_class.csv", lambda path: write_csv(path, _CLASS_COLUMNS, _class_rows(evaluation))),
        (PREDICTIONS_FILE, lambda path: write_csv(path, columns, _prediction_rows(evaluation, images))),
        ("confusion.png", lambda path: draw_confusion(evaluation, path)),
        ("reliability.png", lambda path: draw_reliability(evaluation, path)),
        ("mistakes.png", lambda path: draw_mistakes(evaluation, images, path)),
    ]


def _segmentation_files(evaluation: SegmentationEvaluation, images: MaskedImages) -> _Files:
    return [
        ("per_class.csv", lambda path: write_csv(path, _MASK_CLASS_COLUMNS, _mask_class_rows(evaluation))),
        (IMAGE_SCORES_FILE, lambda path: write_csv(path, _IMAGE_COLUMNS, _image_rows(evaluation, images))),
        ("confusion.png", lambda path: draw_confusion(evaluation, path)),
        ("worst.png", lambda path: draw_worst(evaluation, images, path)),
    ]


def _frequent_confusions(evaluation: Evaluation) -> list[dict[str, Any]]:
    names = evaluation.class_names
    return [
        {"true": names[true], "predicted": names[predicted], "images": count}
        for true, predicted, count in evaluation.confused[:_MOST_PAIRS]
    ]


def most_mistaken(evaluation: BaseEvaluation) -> dict[int, tuple[int, int]]:
    """Return the most frequent confusion of each class: true class → (predicted class, count).

    Classes that are never confused are left out.
    """
    found: dict[int, tuple[int, int]] = {}
    for true, predicted, count in evaluation.confused:
        found.setdefault(true, (predicted, count))
    return found


_CLASS_COLUMNS = ("class", "images", "precision", "recall", "f1", "mistaken_for", "mistaken", "group")


def _class_rows(evaluation: Evaluation) -> Iterable[Sequence[Any]]:
    """Yield scores, most frequent confusion and group in the confusion matrix of each class."""
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


_PREDICTION_COLUMNS = ("path", "true", "predicted", "answer", "probability", "true_probability")


def _prediction_rows(evaluation: Evaluation, images: ImageSet) -> Iterable[Sequence[Any]]:
    names = np.array(evaluation.class_names, dtype=object)
    for row, index in enumerate(evaluation.indices):
        predicted, *others = names[evaluation.ranked[row]]
        yield (
            path_cell(images.name(int(index))),
            names[evaluation.labels[row]],
            predicted,
            "right" if evaluation.right[row] else "wrong",
            f"{evaluation.probability[row]:.6f}",
            f"{evaluation.label_probability[row]:.6f}",
            *others,
        )


_MASK_CLASS_COLUMNS = ("class", "color", "pixels", "images", "iou", "precision", "recall", "mistaken_for", "mistaken")


def _mask_class_rows(evaluation: SegmentationEvaluation) -> Iterable[Sequence[Any]]:
    """Yield color, pixels, images, scores and most frequent confusion of each class."""
    right, true, predicted = (table.sum(axis=0) for table in (evaluation.right, evaluation.true, evaluation.predicted))
    mistaken, iou = most_mistaken(evaluation), evaluation.iou
    for index, name in enumerate(evaluation.class_names):
        other, count = mistaken.get(index, (None, 0))
        yield (
            name,
            hex_color(evaluation.class_colors[index]),
            true[index],
            np.count_nonzero(evaluation.true[:, index]),
            "" if np.isnan(iou[index]) else f"{iou[index]:.6f}",
            f"{right[index] / predicted[index]:.6f}" if predicted[index] else "",
            f"{right[index] / true[index]:.6f}" if true[index] else "",
            "" if other is None else evaluation.class_names[other],
            count,
        )


_IMAGE_COLUMNS = ("path", "miou", "pixel_accuracy", "pixels")


def _image_rows(evaluation: SegmentationEvaluation, images: MaskedImages) -> Iterable[Sequence[Any]]:
    scores = evaluation.image_scores
    for row, index in enumerate(evaluation.indices):
        values = (f"{scores[name][row]:.6f}" for name in ("miou", "pixel_accuracy"))
        yield path_cell(images.name(int(index))), *values, evaluation.true[row].sum()
