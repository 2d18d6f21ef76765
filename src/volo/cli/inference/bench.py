"""``volo bench``: how fast models are on this machine, beside others, and what they take."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console
from volo.files import atomic_write, check_writable_file, created_folder

if TYPE_CHECKING:
    from volo.bench.results import Group


def run(arguments: Sequence[str]) -> int:
    """Print a table for everything that was measured together, and write figures and a picture where asked."""
    given = _checked(parse(_parser(), arguments))

    from volo.bench.candidates import find_candidates
    from volo.bench.machine import machine
    from volo.bench.results import groups, to_json
    from volo.bench.runner import Plan, run_interleaved

    draw = _drawing(given)
    contestants = find_candidates(given["models"], given["against"], given["runtimes"], pixels=given["size"])
    plan = Plan(rounds=given["rounds"], seconds=given["seconds"])
    measured = run_interleaved(contestants, batches=given["batch"], threads=given["threads"], plan=plan, say=_say)
    together, facts = (
        groups(measured),
        machine("torch", *dict.fromkeys(name for c in contestants for name in c.packages)),
    )
    console = Console()
    for heat in together:
        console.print(_table(heat))
        console.print(_fastest(heat), soft_wrap=True)
    console.print(", ".join(f"{name} {fact}" for name, fact in facts.items()), soft_wrap=True)
    if given["output"] is not None:
        files = _write(given["output"], to_json(together, facts), lambda path: draw(together, path))
        console.print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="volo bench",
        description="Measure how fast models are here, in turns, each in its own process; several values: a,b or a b.",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        help="names of volo models (random weights), run folders, files of weights, exported files, timm:NAME",
    )
    parser.add_argument("--against", nargs="+", default=[], help="likewise, to be compared with: timm:volo_d1_224")
    parser.add_argument(
        "--runtimes", nargs="+", default=["pytorch"], help="of pytorch, compile, onnxruntime and openvino"
    )
    parser.add_argument("--batch", nargs="+", default=["1"], help="images at a time")
    parser.add_argument("--threads", nargs="+", default=[str(torch.get_num_threads())], help="to compute with")
    parser.add_argument("--size", type=int | None, help="side of the images; default: what each model is made for")
    parser.add_argument("--rounds", type=int, default=20, help="most turns of each")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the rounds of one batch size; at least 3")
    parser.add_argument(
        "--pareto", action="store_true", help="draw published accuracy by measured speed; has models of its own"
    )
    parser.add_argument(
        "--output", type=str | None, help="*.json: all figures; *.png: a picture, and the figures as *.json beside it"
    )
    return parser


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The options with their lists as lists, and their numbers as numbers."""
    lists = {name: _split(given[name]) for name in ("models", "against", "runtimes")}
    numbers = {name: _numbers(name, _split(given[name])) for name in ("batch", "threads")}
    given = {**given, **lists, **numbers}
    if min(given["rounds"], given["seconds"], given["size"] or 1) <= 0:
        raise ValueError("--rounds, --seconds and --size must be positive")
    if given["pareto"]:
        _check_pareto(given)
    elif not given["models"]:
        raise ValueError("name what is to be measured: --models volo_d1_224, a run folder, an exported file, timm:NAME")
    if given["output"] is not None:
        given["output"] = Path(given["output"])
        if given["output"].suffix not in (".json", ".png"):
            raise ValueError(f"--output must end in .json or .png, not {given['output'].name!r}")
        check_writable_file(given["output"])  # before the work, not after it
    return given


def _check_pareto(given: dict[str, Any]) -> None:
    from volo.bench.published import BASELINES, VOLOS, published_top1

    if given["size"] is not None:
        raise ValueError("--pareto has no --size: accuracy was published for the size that a model is made for")
    if len(given["batch"]) > 1 or len(given["threads"]) > 1:
        raise ValueError("--pareto draws one --batch and one number of --threads")
    if given["output"] is None or not given["output"].endswith(".png"):
        raise ValueError("--pareto draws a picture; name it: --output pareto.png")
    if not given["models"] and not given["against"]:
        given.update(models=list(VOLOS), against=list(BASELINES))
    for model in (*given["models"], *given["against"]):
        published_top1(model)


def _split(values: Sequence[str]) -> list[str]:
    """Values that stand apart, or have commas between them; a path may have one in it."""
    parts = [[value] if Path(value).exists() else value.split(",") for value in values]
    return list(dict.fromkeys(part for several in parts for part in several if part))


def _numbers(name: str, values: Sequence[str]) -> list[int]:
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"--{name} must be whole numbers from 1 on, such as 1,8, not {value!r}")
    return [int(value) for value in values]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _drawing(given: dict[str, Any]) -> Callable[[Sequence["Group"], Path], None]:
    """What draws the picture; where matplotlib is missing, this shows before the work."""
    if given["output"] is None or given["output"].suffix != ".png":
        return lambda together, path: None
    from volo.bench.picture import draw_pareto, draw_speed

    return (lambda together, path: draw_pareto(together[0], path)) if given["pareto"] else draw_speed


def _table(heat: "Group") -> Table:
    """Two lines for each: a value, and below it what goes with it."""
    from volo.bench.results import Estimate, latencies, speedup, throughput

    def lines(estimate: Estimate) -> str:
        return f"{estimate.value:.3g}\n{estimate.low:.3g} to {estimate.high:.3g}"

    rounds = max(len(each.rounds) for each in heat.measured)
    table = Table(title=f"batch {heat.batch}, threads {heat.threads}, {rounds} rounds", title_justify="left")
    table.add_column("model\nruntime", overflow="fold")
    for heading in ("images/s\n95 %", "times *\n95 %", "ms p50\np90, p99", "peak\nMiB", "start\ns"):
        table.add_column(heading, justify="right")
    for each in heat.measured:
        median, *later = (f"{value:.4g}" for value in latencies(each))
        table.add_row(
            f"{each.contestant.model.name}\n{each.contestant.runtime}",
            lines(throughput(each)),
            "*" if each is heat.reference else lines(speedup(each, heat.reference)),
            f"{median}\n{', '.join(later)}",
            f"{each.peak / 2**20:.0f}",
            f"{each.start:.2f}",
        )
    return table


def _fastest(heat: "Group") -> str:
    """One line: the best of the models beside the best of what they are compared with."""
    from volo.bench.results import speedup

    if heat.fastest is None:
        return ""
    ours, theirs = heat.fastest
    times = speedup(ours, theirs)
    return f"fastest in float32: {ours.contestant.name}, {times} times as fast as {theirs.contestant.name}"


def _write(output: Path, figures: str, draw: Callable[[Path], None]) -> list[Path]:
    """Both files or none."""
    files = [output.with_suffix(".json"), *([output] if output.suffix == ".png" else [])]
    with created_folder(output.parent), ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in files]
        temporary[0].write_text(figures, encoding="utf-8")
        for picture in temporary[1:]:
            draw(picture)
    return files
