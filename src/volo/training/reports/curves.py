"""Loss and score curves of a run, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from volo.figures import save_figure
from volo.training.config import monitored_metric


def draw_curves(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the losses and the validation score of every epoch into a PNG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_loss(left, rows)
    plot_score(right, rows)
    save_figure(figure, path)


def plot_loss(axes: Axes, rows: Sequence[dict[str, float]]) -> None:
    """Plot the training and validation loss of every epoch."""
    epochs = [row["epoch"] for row in rows]
    axes.plot(epochs, [row["train_loss"] for row in rows], marker=".", label="training (all terms)")
    axes.plot(epochs, [row["val_loss"] for row in rows], marker=".", label="validation (cross-entropy)")
    _finish(axes, "loss", len(rows))


def plot_score(axes: Axes, rows: Sequence[dict[str, float]]) -> None:
    """Plot the validation score of every epoch, with the best epoch marked."""
    epochs, (key, name) = [row["epoch"] for row in rows], monitored_metric(rows[0])
    values = [row[key] for row in rows]
    best = max(range(len(rows)), key=values.__getitem__)
    axes.plot(epochs, values, color="tab:green", label=f"validation {name}")
    axes.plot(epochs[best], values[best], "o", color="tab:green", label=f"best {values[best]:.2%}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(axes, name, len(rows))


def _finish(axes: Any, title: str, epochs: int) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
