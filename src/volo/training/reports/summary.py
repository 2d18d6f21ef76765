"""A summary of a classification run as one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from volo.data import ImageSet
from volo.evaluation.classification import Evaluation
from volo.evaluation.plots import choose_samples, plot_confusion, plot_sample
from volo.figures import save_figure
from volo.training.reports.curves import plot_loss, plot_score

_COLUMNS = 8


def draw_summary(rows: Sequence[dict[str, float]], evaluation: Evaluation, images: ImageSet, path: Path) -> None:
    """Draw sample images with their predictions, the curves and the confusion matrix into a PNG.

    Args:
        rows: the metrics of each epoch.
        evaluation: evaluation of the trained model on ``images``.
        images: the validation images.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(15, 11), layout="constrained")
    samples, charts = np.asarray(figure.subfigures(2, 1, height_ratios=(1.15, 1)))
    samples.suptitle("correct predictions, then the most confident mistakes")
    chosen = choose_samples(evaluation, right=2 * _COLUMNS, wrong=_COLUMNS)
    grid = samples.subplots(3, _COLUMNS)
    for axes in grid.flat:
        axes.axis("off")
    for axes, row in zip(grid.flat, chosen, strict=False):
        plot_sample(axes, evaluation, images, row)
    loss, accuracy, confusion = charts.subplots(1, 3, width_ratios=(1, 1, 1.2))
    plot_loss(loss, rows)
    plot_score(accuracy, rows)
    plot_confusion(confusion, evaluation)
    save_figure(figure, path, dpi=110)
