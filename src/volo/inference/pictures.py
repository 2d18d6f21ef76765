"""Pictures of how good a classifier is. Needs the extra ``volo[train]``."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from volo.data import ImageSet
from volo.files import replacing
from volo.inference.evaluate import Evaluation

#: With more classes than this, cells are too small for numbers.
_MOST_NUMBERED = 20


def save_figure(figure: Figure, path: Path, *, dpi: int = 120) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix into a PNG."""
    side = min(16.0, 3.0 + 0.45 * len(evaluation.class_names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    plot_confusion(figure.subplots(), evaluation)
    save_figure(figure, path)


def plot_confusion(axes: Axes, evaluation: Evaluation) -> None:
    """Shares of every true class (row) that were given each name (column); the counts are written in the cells."""
    counts, names = evaluation.confusion, evaluation.class_names
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"confusion matrix, top-1 {evaluation.top1:.2%}")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) > _MOST_NUMBERED * 5:
        return
    # Names are shown as they are: matplotlib would read $…$ as a formula.
    short = [_shortened(name) for name in names]
    axes.set_xticks(range(len(names)), short, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), short, fontsize=8, parse_math=False)
    if len(names) > _MOST_NUMBERED:
        return
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color=color)


def choose_samples(evaluation: Evaluation, *, right: int, wrong: int) -> list[int]:
    """Rows of the evaluation to show: right answers of as many classes as can be, then the surest mistakes."""
    mistaken = np.flatnonzero(evaluation.predicted != evaluation.labels)
    correct = np.flatnonzero(evaluation.predicted == evaluation.labels)
    mistaken = mistaken[np.argsort(-evaluation.probability[mistaken], kind="stable")][:wrong]
    # The n-th image of each class before the n+1-th of any.
    turns = np.zeros(len(correct), dtype=int)
    for label in np.unique(evaluation.labels[correct]):
        members = evaluation.labels[correct] == label
        turns[members] = np.arange(members.sum())
    correct = correct[np.lexsort((evaluation.labels[correct], turns))][:right]
    return [*correct.tolist(), *mistaken.tolist()]


def plot_sample(axes: Any, evaluation: Evaluation, images: ImageSet, row: int) -> None:
    """One image with what the model takes it for; in red, with the true name, where that is wrong."""
    image = images.read(int(evaluation.indices[row]))
    axes.imshow(np.asarray(image), cmap="gray" if image.mode == "L" else None)
    predicted, label = evaluation.predicted[row], evaluation.labels[row]
    title = f"{_shortened(evaluation.class_names[predicted])} {evaluation.probability[row]:.0%}"
    if predicted != label:
        title += f"\nis {_shortened(evaluation.class_names[label])}"
    axes.set_title(title, fontsize=8, parse_math=False, color="tab:green" if predicted == label else "tab:red")
    axes.axis("off")


def _shortened(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
