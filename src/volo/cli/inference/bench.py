"""``volo bench``: measure how fast models are on this machine, beside baselines."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from volo.cli.ui.parser import VerbParser, add_overwrite_option, add_trust_option, parse
from volo.cli.ui.terminal import Console, say_error
from volo.files import atomic_write, created_folder
from volo.outputs import check_outputs

if TYPE_CHECKING:
    from volo.bench.results import Group

_MODELS_HELP = "volo models by name (random weights), model folders, files of weights, exported files, timm:NAME"


def run(arguments: Sequence[str]) -> int:
    """Print a table for each group of candidates, and write figures and a picture if an output is given."""
    options = _checked(parse(parser(), arguments))

    from volo.bench.candidates import find_candidates
    from volo.bench.machine import machine
    from volo.bench.results import groups, to_json
    from volo.bench.runner import Plan, run_interleaved

    draw = _drawing(options)
    candidates = find_candidates(
        options["models"], options["against"], options["runtimes"], pixels=options["size"], trust=options["trust"]
    )
    plan = Plan(rounds=options["rounds"], seconds=options["seconds"])
    batches, threads = options["batch_size"], options["threads"]
    measured = groups(run_interleaved(candidates, batches=batches, threads=threads, plan=plan, report=say_error))
    facts = machine("torch", *dict.fromkeys(name for candidate in candidates for name in candidate.packages))
    console = Console()
    for group in measured:
        console.print(_table(group))
        console.print(_fastest(group), soft_wrap=True)
    console.print(", ".join(f"{name} {fact}" for name, fact in facts.items()), soft_wrap=True)
    if options["output"] is not None:
        files = _write(options["output"], to_json(measured, facts), lambda path: draw(measured, path))
        console.print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo bench``."""
    parser = VerbParser(
        prog="volo bench",
        usage="--models MODEL... [options]",
        description="Measure how fast models are on this machine, in interleaved rounds, each in its own process. "
        "Several values are separated by commas or spaces.",
        synonyms={"batch": "batch-size"},
    )
    add = parser.add_argument
    add("--models", metavar="MODEL", nargs="+", default=[], help=_MODELS_HELP)
    add("--against", metavar="MODEL", nargs="+", default=[], help="baselines, likewise, such as timm:volo_d1_224")
    add("--runtimes", metavar="RUNTIME", nargs="+", default=["pytorch"], help="pytorch, compile, onnxruntime, openvino")
    add("--batch-size", metavar="N", nargs="+", default=["1"], help="images at a time")
    add("--threads", metavar="N", nargs="+", default=[str(torch.get_num_threads())], help="CPU threads to compute with")
    add("--size", type=int | None, help="side of the images in pixels (default: the size of each model)")
    add("--rounds", type=int, default=20, help="most rounds of each model")
    add("--seconds", type=float, default=60.0, help="time for the rounds of one batch size; at least 3 are run")
    add("--pareto", action="store_true", help="draw published accuracy by measured speed; chooses the models itself")
    add("--output", type=str | None, help="*.json: all figures; *.png: a picture, and the figures as *.json beside it")
    add_overwrite_option(parser)
    add_trust_option(parser)
    return parser


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with lists split and numbers parsed.

    Raises:
        ValueError: An option has a wrong value, or options contradict each other.
    """
    lists = {name: _split(options[name]) for name in ("models", "against", "runtimes")}
    numbers = {name: _numbers(name, _split(options[name])) for name in ("batch_size", "threads")}
    options = {**options, **lists, **numbers}
    if min(options["rounds"], options["seconds"], options["size"] or 1) <= 0:
        raise ValueError("--rounds, --seconds and --size must be positive")
    if options["pareto"]:
        _check_pareto(options)
    elif not options["models"]:
        raise ValueError("models are missing: --models volo_d1_224, a model folder, an exported file or timm:NAME")
    if options["output"] is not None:
        options["output"] = Path(options["output"])
        if options["output"].suffix not in (".json", ".png"):
            raise ValueError(f"--output must end in .json or .png, not {options['output'].name!r}")
        inputs = (*options["models"], *options["against"])
        check_outputs(_files(options["output"]), overwrite=options["overwrite"], inputs=inputs)
    return options


def _check_pareto(options: dict[str, Any]) -> None:
    from volo.bench.published import BASELINES, VOLOS, published_top1

    if options["size"] is not None:
        raise ValueError("--pareto has no --size: accuracy was published for the size that a model is made for")
    if len(options["batch_size"]) > 1 or len(options["threads"]) > 1:
        raise ValueError("--pareto draws one --batch-size and one number of --threads")
    if options["output"] is None or not options["output"].endswith(".png"):
        raise ValueError("--pareto draws a picture; name it: --output pareto.png")
    if not options["models"] and not options["against"]:
        options.update(models=list(VOLOS), against=list(BASELINES))
    for model in (*options["models"], *options["against"]):
        published_top1(model)


def _split(values: Sequence[str]) -> list[str]:
    """Split values at commas, except paths that exist, and drop repeated ones."""
    split = [[value] if Path(value).exists() else value.split(",") for value in values]
    return list(dict.fromkeys(item for items in split for item in items if item))


def _numbers(name: str, values: Sequence[str]) -> list[int]:
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be whole numbers from 1 on, such as 1,8, not {value!r}")
    return [int(value) for value in values]


def _drawing(options: dict[str, Any]) -> Callable[[Sequence["Group"], Path], None]:
    """Return the function that draws the picture; a missing matplotlib is an error here, before the work."""
    if options["output"] is None or options["output"].suffix != ".png":
        return lambda measured, path: None
    from volo.bench.picture import draw_pareto, draw_speed

    return (lambda measured, path: draw_pareto(measured[0], path)) if options["pareto"] else draw_speed


def _table(group: "Group") -> Table:
    """Return a table with two lines for each candidate: values, and below them their intervals or percentiles."""
    from volo.bench.results import Estimate, latencies, speedup, throughput

    def lines(estimate: Estimate) -> str:
        return f"{estimate.value:.3g}\n{estimate.low:.3g} to {estimate.high:.3g}"

    rounds = max(len(each.rounds) for each in group.measured)
    table = Table(title=f"batch {group.batch}, threads {group.threads}, {rounds} rounds", title_justify="left")
    table.add_column("model\nruntime", overflow="fold")
    for heading in ("images/s\n95 %", "times *\n95 %", "ms p50\np90, p99", "peak\nMiB", "start\ns"):
        table.add_column(heading, justify="right")
    for each in group.measured:
        median, *later = (f"{value:.4g}" for value in latencies(each))
        table.add_row(
            f"{each.candidate.model.name}\n{each.candidate.runtime}",
            lines(throughput(each)),
            "*" if each is group.reference else lines(speedup(each, group.reference)),
            f"{median}\n{', '.join(later)}",
            f"{each.peak / 2**20:.0f}",
            f"{each.start:.2f}",
        )
    return table


def _fastest(group: "Group") -> str:
    """Return a line that compares the fastest of the models with the fastest baseline."""
    from volo.bench.results import speedup

    if group.fastest is None:
        return ""
    ours, theirs = group.fastest
    times = speedup(ours, theirs)
    return f"fastest in float32: {ours.candidate.name}, {times} times as fast as {theirs.candidate.name}"


def _files(output: Path) -> list[Path]:
    """Return the files to write: the figures, and the picture if one was named."""
    return [output.with_suffix(".json"), *([output] if output.suffix == ".png" else [])]


def _write(output: Path, figures: str, draw: Callable[[Path], None]) -> list[Path]:
    """Write the figures and the picture, both or neither. Returns the files."""
    files = _files(output)
    with created_folder(output.parent), ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in files]
        temporary[0].write_text(figures, encoding="utf-8")
        for picture in temporary[1:]:
            draw(picture)
    return files
