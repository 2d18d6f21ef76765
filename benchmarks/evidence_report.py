"""Tables and curves of the experiments' runs, written into a page between the marks that stand in it."""

import json
import re
import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from experiment import RESULT, Result
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from volo.figures import save_figure
from volo.files import atomic_write
from volo.precision import canonical_precision

#: Folder of a table's runs (the teacher is one alone) → the title of its picture.
TABLES = {
    "teacher": "The teacher",
    "labels": "What a token learns",
    "first-stage": "What mixes the first stage's tokens",
    "peers": "Compared with networks of timm",
}
HEADER = """| | parameters (M) | epochs | CPU minutes | top-1, mean ± deviation | every seed |
|---|---|---|---|---|---|
"""


def report(out: Path, page: Path) -> list[Path]:
    """Put what there is of every table into ``page``, and its curves into a picture beside it.

    The place of a table is marked by ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``; what is between them is
    replaced.

    Returns:
        The files written.

    Raises:
        ValueError: there is no run that has ended; or ``page`` lacks the marks of a table.
    """
    text, written = page.read_text(encoding="utf-8"), [page]
    for name, title in TABLES.items():
        variants = read_results(out / name)
        if not variants:
            continue
        picture = page.with_name(f"{page.stem}-{name}.png")
        draw(variants, title, picture)
        written.append(picture)
        text = filled(text, name, f"{table(variants)}\n![{title}: curves]({picture.name})\n", page)
    if len(written) == 1:
        raise ValueError(f"no run of an experiment has ended in {out}; give its folder as --out")
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return written


def read_results(folder: Path) -> list[list[Result]]:
    """Read the results of a table's runs: a list for each variant, in the order of the table, sorted by seed."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob(RESULT)]
    results.sort(key=lambda result: (result["place"], result["config"]["seed"]))
    return [list(group) for _, group in groupby(results, key=lambda result: result["place"])]


def filled(text: str, name: str, generated: str, page: Path) -> str:
    """Return ``text`` with ``generated`` between the marks of ``name``."""
    begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{page} has no place for {name}: write {begin} and {end} into it, a line each")
    return pattern.sub(lambda _: f"{begin}\n{generated}{end}", text)


def table(variants: Sequence[Sequence[Result]]) -> str:
    """Return a table in Markdown, and a line about the data and the machine."""
    first = variants[0][0]
    train, val = first["images"]
    machine, precision = variants[-1][0]["machine"], canonical_precision(first["config"]["precision"])
    facts = (
        f"{train:,} training and {val:,} validation images; the last epoch of every run; {precision}; "
        f"{machine['cpu']}, threads: {machine['threads']}; PyTorch {machine['torch']}, timm {machine['timm']}."
    )
    return HEADER + "".join(row(results) for results in variants) + f"\n{facts}\n"


def row(results: Sequence[Result]) -> str:
    """Return the row of a variant."""
    first, scores = results[0], [100 * result["epochs"][-1]["val_top1"] for result in results]
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    cells = (
        first["name"],
        f"{first['parameters'] / 1e6:.3f}",
        str(len(first["epochs"])),
        f"{statistics.mean(minutes(result)[-1] for result in results):.1f}",
        f"{statistics.mean(scores):.2f}{spread}",
        ", ".join(f"{score:.2f}" for score in scores),
    )
    return f"| {' | '.join(cells)} |\n"


def minutes(result: Result) -> np.ndarray:
    """CPU minutes of training by the end of every epoch."""
    return np.cumsum([epoch["cpu_seconds"] for epoch in result["epochs"]]) / 60


def draw(variants: Sequence[Sequence[Result]], title: str, path: Path) -> None:
    """Draw validation top-1 over minutes of training: mean, worst and best seed of every variant."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for results in variants:
        across = np.mean([minutes(result) for result in results], axis=0)
        top1 = np.array([[epoch["val_top1"] for epoch in result["epochs"]] for result in results])
        (line,) = axes.plot(across, top1.mean(axis=0), marker=".", label=results[0]["name"])
        axes.fill_between(across, top1.min(axis=0), top1.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(title=title, xlabel="CPU minutes of training", ylabel="validation top-1")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, path)
