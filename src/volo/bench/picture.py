"""Plots of the measurements. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from volo.bench.published import published_top1
from volo.bench.results import Group, throughput
from volo.bench.runner import Measured
from volo.figures import save_figure
from volo.messages import elide

#: Colors of the models and of the baselines.
_MODEL, _BASELINE = "tab:blue", "tab:gray"


def draw_speed(grouped: Sequence[Group], path: Path) -> None:
    """Draw images per second as bars with their 95 % intervals into a PNG file, one panel for each group.

    Args:
        grouped: the groups of measurements.
        path: the PNG file.
    """
    lines = max(len(group.measured) for group in grouped)
    figure = Figure(figsize=(1 + 5 * len(grouped), 1.6 + 0.35 * lines), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(grouped), squeeze=False)[0], grouped, strict=True):
        estimates = [throughput(measured) for measured in group.measured]
        values = [each.value for each in estimates]
        errors = [[each.value - each.low for each in estimates], [each.high - each.value for each in estimates]]
        colors = [_BASELINE if measured.candidate.baseline else _MODEL for measured in group.measured]
        names = [_label(measured) for measured in group.measured]
        bars = axes.barh(np.arange(len(values)), values, xerr=errors, color=colors, ecolor="black", capsize=2)
        axes.bar_label(bars, [f"{value:.4g}" for value in values], padding=4)
        axes.set_yticks(np.arange(len(values)), names, parse_math=False)
        axes.invert_yaxis()
        axes.set(
            title=f"batch {group.batch}, threads {group.threads}",
            xlabel="images/s",
            xlim=(0, 1.25 * max(each.high for each in estimates)),
        )
    save_figure(figure, path)


def draw_pareto(group: Group, path: Path) -> None:
    """Draw published accuracy over measured speed into a PNG file, with the Pareto front as a dashed line.

    Every model is drawn once, in its fastest runtime.

    Args:
        group: the measurements.
        path: the PNG file.

    Raises:
        ValueError: The published accuracy of a model is not known.
    """
    points = [
        (throughput(each).value, published_top1(each.candidate.model.name), each) for each in fastest_of_each(group)
    ]
    points.sort(key=lambda point: point[:2])
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, (speed, accuracy, measured) in enumerate(points, 1):
        color, marker = (_BASELINE, "s") if measured.candidate.baseline else (_MODEL, "o")
        label = f"{number:2}  {_label(measured)}: {accuracy:.1f} %, {speed:.3g}/s"
        axes.plot(speed, accuracy, marker, color=color, label=label)
        axes.annotate(str(number), (speed, accuracy), (5, 4), textcoords="offset points", size=8)
    front = pareto_front([point[:2] for point in points])
    axes.plot(*zip(*front, strict=True), color="black", linewidth=0.8, linestyle="--", drawstyle="steps-post", zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    axes.set(xlabel=f"measured: images/s, batch {group.batch}, threads {group.threads}")
    axes.set(ylabel="published: top-1 on ImageNet-1k, % (timm's results table)")
    axes.grid(alpha=0.3)
    for text in figure.legend(loc="outside right upper", fontsize=8).get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def fastest_of_each(group: Group) -> list[Measured]:
    """Return, for every model, the measurement of its fastest runtime."""
    fastest: dict[str, Measured] = {}
    for measured in group.measured:
        name = measured.candidate.model.name
        if name not in fastest or throughput(measured).value > throughput(fastest[name]).value:
            fastest[name] = measured
    return list(fastest.values())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front of points (speed, accuracy), the fastest point first.

    A point is on the front if no other point is at least as good in both values.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _label(measured: Measured) -> str:
    """Return the label of a bar or point; of a path, its last part, which differs more than its beginning."""
    name = measured.candidate.model.name
    short = Path(name).name if Path(name).exists() else name
    return f"{elide(short, 36)}, {measured.candidate.runtime}"
