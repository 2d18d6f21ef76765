"""The comparison of training runs as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from volo.figures import save_figure
from volo.messages import elide
from volo.training.config import MONITORED_METRICS
from volo.training.reports.compare import Comparison, RunRecord, table_rows


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the curves of all runs, and below them the table of scores and differing settings, into a PNG."""
    rows = table_rows(comparison)
    lines = 1 + sum(_lines(values) for _, values in rows)
    size = (max(13.0, 3.0 + 2.0 * len(comparison.runs)), 4.6 + 0.2 * lines)
    figure = Figure(figsize=size, layout="constrained")
    charts, below = np.asarray(figure.subfigures(2, 1, height_ratios=(4.6, 0.2 * lines)))
    _plot_runs(charts, comparison.runs)
    _plot_table(below.subplots(), ["", *(run.name for run in comparison.runs)], rows)
    save_figure(figure, path)


def _plot_runs(figure: Any, runs: Sequence[RunRecord]) -> None:
    """Plot the validation loss by epoch, and the score by epoch and by time, with a line for each run."""
    metric, name = MONITORED_METRICS[runs[0].task]
    loss, score, timed = figure.subplots(1, 3)
    for run in runs:
        epochs, losses, scores = (
            [row.get(column, np.nan) for row in run.rows] for column in ("epoch", "val_loss", metric)
        )
        minutes = np.cumsum([row.get("seconds", 0.0) for row in run.rows]) / 60
        loss.plot(epochs, losses, marker=".")
        score.plot(epochs, scores, marker=".")
        timed.plot(minutes, scores, marker=".")
    loss.set(title="validation loss", xlabel="epoch")
    score.set(title=f"validation {name}", xlabel="epoch")
    timed.set(title=f"validation {name}", xlabel="minutes of training")
    for axes in (loss, score):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (score, timed):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (loss, score, timed):
        axes.grid(alpha=0.3)
    names = [elide(run.name) for run in runs]
    legend = figure.legend(loss.lines, names, loc="outside lower center", ncols=min(5, len(runs)))
    for text in legend.texts:
        text.set_parse_math(False)


def _plot_table(axes: Axes, header: list[str], rows: list[tuple[str, list[str]]]) -> None:
    axes.axis("off")
    texts = [["\n".join(elide(line, 26) for line in text.split("\n")) for text in values] for _, values in rows]
    cells = [[name, *row] for (name, _), row in zip(rows, texts, strict=True)]
    table = axes.table(cells, colLabels=[elide(name, 26) for name in header], loc="upper center", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    lines = [1, *(_lines(values) for _, values in rows)]
    for (row, column), cell in table.get_celld().items():
        cell.set_height(lines[row] / sum(lines))
        cell.set_edgecolor("lightgray")
        cell.get_text().set_parse_math(False)
        if row == 0 or column == 0:
            cell.get_text().set_fontweight("bold")


def _lines(values: list[str]) -> int:
    return max(value.count("\n") for value in values) + 1
