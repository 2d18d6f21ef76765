"""Pictures of what was measured. Needs matplotlib."""

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

#: Colors: the models, and those that they are compared with.
_OURS, _PEER = "tab:blue", "tab:gray"


def draw_speed(together: Sequence[Group], path: Path) -> None:
    """Draw images per second as bars with their intervals into a PNG, what was measured together side by side."""
    lines = max(len(heat.measured) for heat in together)
    figure = Figure(figsize=(1 + 5 * len(together), 1.6 + 0.35 * lines), layout="constrained")
    for axes, heat in zip(figure.subplots(1, len(together), squeeze=False)[0], together, strict=True):
        estimates = [throughput(each) for each in heat.measured]
        values = [each.value for each in estimates]
        errors = [[each.value - each.low for each in estimates], [each.high - each.value for each in estimates]]
        colors = [_PEER if each.contestant.peer else _OURS for each in heat.measured]
        names = [_label(each) for each in heat.measured]
        bars = axes.barh(np.arange(len(values)), values, xerr=errors, color=colors, ecolor="black", capsize=2)
        axes.bar_label(bars, [f"{value:.4g}" for value in values], padding=4)
        axes.set_yticks(np.arange(len(values)), names, parse_math=False)
        axes.invert_yaxis()
        axes.set(
            title=f"batch {heat.batch}, threads {heat.threads}",
            xlabel="images/s",
            xlim=(0, 1.25 * max(each.high for each in estimates)),
        )
    save_figure(figure, path)


def draw_pareto(heat: Group, path: Path) -> None:
    """Draw published accuracy by measured speed into a PNG: every model in its fastest runtime, the front as steps."""
    points = [
        (throughput(each).value, published_top1(each.contestant.model.name), each) for each in fastest_of_each(heat)
    ]
    points.sort(key=lambda point: point[:2])
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, (speed, accuracy, each) in enumerate(points, 1):
        color, marker = (_PEER, "s") if each.contestant.peer else (_OURS, "o")
        label = f"{number:2}  {_label(each)}: {accuracy:.1f} %, {speed:.3g}/s"
        axes.plot(speed, accuracy, marker, color=color, label=label)
        axes.annotate(str(number), (speed, accuracy), (5, 4), textcoords="offset points", size=8)
    front = pareto_front([point[:2] for point in points])
    axes.plot(*zip(*front, strict=True), color="black", linewidth=0.8, linestyle="--", drawstyle="steps-post", zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    axes.set(xlabel=f"measured: images/s, batch {heat.batch}, threads {heat.threads}")
    axes.set(ylabel="published: top-1 on ImageNet-1k, % (timm's results table)")
    axes.grid(alpha=0.3)
    for text in figure.legend(loc="outside right upper", fontsize=8).get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def fastest_of_each(heat: Group) -> list[Measured]:
    """Every model in the runtime in which it is fastest."""
    best: dict[str, Measured] = {}
    for each in heat.measured:
        name = each.contestant.model.name
        if name not in best or throughput(each).value > throughput(best[name]).value:
            best[name] = each
    return list(best.values())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats in both, the fastest first."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _label(measured: Measured) -> str:
    """The end of a path says more than its beginning."""
    name = measured.contestant.model.name
    short = Path(name).name if Path(name).exists() else name
    return f"{elide(short, 36)}, {measured.contestant.runtime}"
