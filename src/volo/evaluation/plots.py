"""Plots of an evaluation: confusion matrix of any task; calibration and samples of a classifier.

Needs the extra ``volo[train]``.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from volo.data import ImageError, ImageSet, read_image
from volo.evaluation.base import BaseEvaluation
from volo.evaluation.classification import Evaluation
from volo.evaluation.metrics import BINS, calibration_bins
from volo.figures import save_figure
from volo.inference.predictor import Predictor
from volo.messages import elide

#: Up to this number of classes, cells are large enough for numbers.
_MOST_NUMBERED = 20
#: Up to this number of classes, names are readable; more classes are ordered in groups.
_MOST_NAMED = 60
#: Up to this number of classes, cells are visible; for more classes, each cell is a group.
_MOST_CELLS = 200
#: Confusions listed beside a grouped matrix.
_MOST_PAIRS = 32
#: Number of mistakes in their plot, and number of columns.
_MOST_MISTAKES, _COLUMNS = 24, 6
#: Colors of correct and wrong predictions.
RIGHT, WRONG = "tab:green", "tab:red"
#: Height of a line of small text, in points.
_LINE = 8.0


def draw_confusion(evaluation: BaseEvaluation, path: Path) -> None:
    """Draw the confusion matrix into a PNG; for more than 60 classes with a list of the most frequent confusions."""
    count = len(evaluation.class_names)
    if count <= _MOST_NAMED:
        side = 3.5 + count * (0.45 if count <= _MOST_NUMBERED else 0.2)
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        plot_confusion(figure.subplots(), evaluation, bar=True)
    else:
        figure = Figure(figsize=(19, 11), layout="constrained")
        matrix, pairs = figure.subplots(1, 2, width_ratios=(2.3, 1))
        plot_confusion(matrix, evaluation, bar=True)
        _list_pairs(pairs, evaluation)
    save_figure(figure, path)


def plot_confusion(axes: Axes, evaluation: BaseEvaluation, *, bar: bool = False) -> None:
    """Plot the share of each true class (row) that was predicted as each class (column).

    Cells of up to 20 classes contain numbers: counts of images, or percent of the true class's pixels. Up to 60
    classes are labeled with their names if there is space. Up to 200 classes are ordered in groups, and the groups
    are framed. For more classes, rows and columns are groups, and cells contain percent.

    Args:
        axes: axes to draw into.
        evaluation: evaluation with the confusion matrix.
        bar: add a color bar.
    """
    counts, names = evaluation.confusion, [elide(name) for name in evaluation.class_names]
    few, summed = len(names) <= _MOST_NUMBERED, len(names) > _MOST_CELLS
    groups = evaluation.groups if len(names) > _MOST_NAMED else []
    group_names = [f"{_group_name(group, names)}  {number}" for number, group in enumerate(groups, 1)]
    order = np.concatenate(groups) if groups else np.arange(len(names))
    if summed:
        member = np.array([np.isin(np.arange(len(names)), group) for group in groups]).astype(int)
        counts, order = member @ counts @ member.T, np.arange(len(groups))
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(order, order)]
    # The square root makes rare confusions visible. A small matrix does not need it: it shows numbers.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1.0 if few else 0.5, vmin=0, vmax=1))
    percent = summed or (few and evaluation.counted == "pixels")  # counts of pixels have too many digits
    kind = "group" if summed else "class"
    axes.set_title(f"confusion matrix, {evaluation.headline}")
    axes.set_xlabel(f"predicted {kind} (numbers: % of the true {kind})" if percent else "predicted")
    axes.set_ylabel("true group" if summed else "true")
    if bar:
        label = f"share of the true {kind}"
        axes.figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), label=label, shrink=0.7)
    if summed:
        _write_names(axes, group_names, below=[f"{number}" for number in range(1, len(groups) + 1)])
    elif groups:
        _frame_groups(axes, groups, group_names)
    else:
        _write_names(axes, names, below=names)
    if percent:
        _write_numbers(axes, shares, np.char.mod("%.0f", shares * 100), shares > 0.005)
    elif few:
        _write_numbers(axes, shares, np.char.mod("%d", counts), counts > 0)


def _row_height(axes: Axes, rows: int) -> float:
    """Return the height of each of ``rows`` rows, in points."""
    return axes.bbox.height / axes.figure.dpi * 72 / rows


def _write_names(axes: Axes, names: list[str], below: list[str]) -> None:
    """Label the rows with ``names`` and the columns with ``below``, if there is space."""
    if _row_height(axes, len(names)) < _LINE:
        axes.set(xticks=[], yticks=[])
        return
    # matplotlib would typeset $…$ in a name as a formula.
    style: dict[str, Any] = {"fontsize": 8, "parse_math": False}
    axes.set_xticks(range(len(names)), below, rotation=90, **style)
    axes.set_yticks(range(len(names)), names, **style)


def _write_numbers(axes: Axes, shares: np.ndarray, texts: np.ndarray, shown: np.ndarray) -> None:
    """Write the text of every cell of ``shown``, white on dark cells and black on light ones."""
    size = min(12.0, max(6.0, _row_height(axes, len(shares)) / 5))
    darkness = np.asarray(axes.images[0].norm(shares), dtype=float)
    for row, column in np.argwhere(shown):
        color = "white" if darkness[row, column] > 0.5 else "black"
        axes.text(column, row, texts[row, column], ha="center", va="center", fontsize=size, color=color)


def _frame_groups(axes: Axes, groups: list[np.ndarray], names: list[str]) -> None:
    """Frame every group, and label groups from the largest to the smallest while labels do not overlap."""
    sizes = np.array([len(group) for group in groups])
    starts = np.cumsum(sizes) - sizes - 0.5
    for start, size in zip(starts, sizes, strict=True):
        axes.add_patch(Rectangle((start, start), size, size, fill=False, edgecolor="tab:orange", linewidth=1))
    centers = starts + sizes / 2
    apart = 1.3 * _LINE / _row_height(axes, int(sizes.sum()))
    shown: list[int] = []
    for place in np.argsort(-sizes, kind="stable"):
        if all(abs(centers[place] - centers[other]) >= apart for other in shown):
            shown.append(int(place))
    axes.set_xticks([])
    axes.set_yticks(centers[shown], [names[place] for place in shown], fontsize=8, parse_math=False)


def _group_name(group: np.ndarray, names: list[str]) -> str:
    first = ", ".join(elide(names[index], 20) for index in group[:2])
    return first + (f" +{len(group) - 2}" if len(group) > 2 else "")


def _list_pairs(axes: Axes, evaluation: BaseEvaluation) -> None:
    """List the most frequent confusions."""
    pairs, totals = evaluation.confused[:_MOST_PAIRS], evaluation.confusion.sum(axis=1)
    axes.set_title("most frequent confusions")
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(_MOST_PAIRS, -1))
    rows = [("true class", "predicted class", evaluation.counted, "of")]
    pairs = [pair for pair in pairs if pair[2] > 1]
    if not pairs:
        rows = [("No confusion occurs more than once.", "", "", "")]
    for true, predicted, count in pairs:
        names = [elide(evaluation.class_names[index]) for index in (true, predicted)]
        rows.append((names[0], names[1], f"{count}", f"{totals[true]}"))
    for place, row in enumerate(rows):
        weight = "normal" if place else "bold"
        for x, text, side in zip((0, 0.42, 0.92, 1), row, ("left", "left", "right", "right"), strict=True):
            axes.text(x, place - 0.5, text, fontsize=9, ha=side, va="center", weight=weight, parse_math=False)


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Draw a reliability diagram into a PNG: accuracy by probability with 95 % intervals, and number of images."""
    bins = calibration_bins(evaluation.probability, evaluation.right)
    some = bins.images > 0
    probability, right = bins.probability[some], bins.right[some]
    figure = Figure(figsize=(6, 7), layout="constrained")
    shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.5, 1))
    shares.plot([0, 1], [0, 1], color="gray", linewidth=1)
    shares.fill_between([0, 1], [0, 1], color=WRONG, alpha=0.06, linewidth=0)
    shares.text(0.97, 0.04, "overconfident", ha="right", color="dimgray")
    shares.text(0.03, 0.96, "underconfident", va="top", color="dimgray")
    ends = np.array([bins.interval(int(place)) for place in np.flatnonzero(some)]).T
    shares.errorbar(
        probability, right, abs(ends - right), fmt="o", color="tab:blue", markersize=6, elinewidth=1.5, clip_on=False
    )
    error, interval = evaluation.scores["calibration_error"], evaluation.intervals["calibration_error"]
    spread = f" (95 %: {interval[0]:.1%} to {interval[1]:.1%})" if interval else ""
    chance = f"up to {evaluation.chance_calibration_error:.1%} by chance alone"
    shares.set_title(f"calibration error {error:.1%}{spread}\n{chance}")
    shares.set(ylabel="share of correct predictions", xlim=(0, 1), ylim=(0, 1))
    counts.bar((np.arange(BINS) + 0.5) / BINS, bins.images, 1 / BINS, color="tab:blue", edgecolor="white")
    counts.set(xlabel="probability of the prediction", ylabel="images")
    counts.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    shares.yaxis.set_major_formatter(PercentFormatter(1.0))
    counts.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (shares, counts):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, path)


def choose_samples(evaluation: Evaluation, *, right: int, wrong: int) -> list[int]:
    """Return rows of the evaluation: correct predictions of as many classes as possible, then confident mistakes.

    Args:
        evaluation: evaluation to choose from.
        right: maximum number of correct predictions.
        wrong: maximum number of mistakes; those with the highest probability are chosen.
    """
    correct, mistaken = np.flatnonzero(evaluation.right), np.flatnonzero(~evaluation.right)
    mistaken = mistaken[np.argsort(-evaluation.probability[mistaken], kind="stable")][:wrong]
    # Sorting by the number within the class takes the first image of every class before the second of any.
    ordinal = np.zeros(len(correct), dtype=int)
    for label in np.unique(evaluation.labels[correct]):
        members = evaluation.labels[correct] == label
        ordinal[members] = np.arange(members.sum())
    correct = correct[np.lexsort((evaluation.labels[correct], ordinal))][:right]
    return [*correct.tolist(), *mistaken.tolist()]


def draw_mistakes(evaluation: Evaluation, images: ImageSet, path: Path) -> None:
    """Draw the mistakes with the highest probability into a PNG, with true and predicted class and file name."""
    rows = choose_samples(evaluation, right=0, wrong=_MOST_MISTAKES)
    wrong = int((~evaluation.right).sum())
    columns = min(_COLUMNS, max(1, len(rows)))
    height = max(1, math.ceil(len(rows) / columns))
    figure = Figure(figsize=(max(4.5, 2.5 * columns), 0.5 + 3.1 * height), layout="constrained")
    figure.suptitle(
        f"the {len(rows)} most confident of {wrong:,} mistakes on {len(evaluation.labels):,} images"
        if rows
        else f"no mistake on {len(evaluation.labels):,} images"
    )
    grid = figure.subplots(height, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, row in zip(grid, rows, strict=False):
        plot_sample(axes, evaluation, images, row)
        name = Path(*Path(images.name(int(evaluation.indices[row]))).parts[-2:])
        style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7, "color": "dimgray", "parse_math": False}
        axes.set(adjustable="datalim", box_aspect=1)  # square axes for images of any shape
        axes.text(0.5, -0.03, elide(str(name), 36), transform=axes.transAxes, **style)
    save_figure(figure, path)


def draw_answers(predictor: Predictor, photos: Sequence[Path], classes: Sequence[str | None], path: Path) -> None:
    """Draw photos into a PNG, and below each photo the model's input and prediction.

    Args:
        predictor: the model.
        photos: image files.
        classes: true class of each photo; None if it is not one of the model's classes.
        path: target file.
    """
    figure = Figure(figsize=(2.2 * len(photos), 4.9), layout="constrained")
    grid = figure.subplots(2, len(photos), squeeze=False)
    answers = predictor.predict(photos, top_k=1)
    for (above, below), photo, true, answer in zip(grid.T, photos, classes, answers, strict=True):
        image = read_image(photo, predictor.preprocessing.channels)
        above.imshow(image)
        below.imshow(predictor.preprocessing.pixels(image), interpolation="nearest")
        above.set_title(elide(photo.name), fontsize=9, parse_math=False)
        right = answer.name == true
        predicted = f"{elide(answer.name)} {answer.probability:.0%}"
        title = predicted if right else f"{predicted}\nis {elide(true) if true else 'not one of its classes'}"
        color = "dimgray" if true is None else RIGHT if right else WRONG
        below.set_title(title, fontsize=9, parse_math=False, color=color)
        above.axis("off")
        below.axis("off")
    height, width = predictor.preprocessing.size
    figure.suptitle(f"photos, the model's input ({width}×{height} pixels), and its predictions", fontsize=10)
    save_figure(figure, path)


def plot_sample(axes: Any, evaluation: Evaluation, images: ImageSet, row: int) -> None:
    """Plot an image with its predicted class; a wrong prediction is red and followed by the true class.

    Args:
        axes: axes to draw into.
        evaluation: evaluation of ``images``.
        images: the images that were evaluated.
        row: row of the evaluation.
    """
    try:
        image = images.read(int(evaluation.indices[row]))
    except ImageError:  # the file was deleted or changed after the evaluation
        axes.text(0.5, 0.5, "cannot be\nread any more", transform=axes.transAxes, ha="center", va="center")
    else:
        image.thumbnail((320, 320))  # the plot has no more pixels
        axes.imshow(np.asarray(image), cmap="gray" if image.mode == "L" else None)
    predicted, label = evaluation.predicted[row], evaluation.labels[row]
    title = f"{elide(evaluation.class_names[predicted])} {evaluation.probability[row]:.0%}"
    if predicted != label:
        title += f"\nis {elide(evaluation.class_names[label])}"
    axes.set_title(title, fontsize=8, parse_math=False, color=RIGHT if predicted == label else WRONG)
    axes.axis("off")
