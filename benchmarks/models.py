"""How fast is a whole VOLO, beside timm's? Images per second of inference and of a training step.

    python benchmarks/models.py                                      # every size, a few minutes on two cores
    python benchmarks/models.py --quick --models volo_micro_32 volo_d1_224 --json speed.json

Both models hold the same weights. Their runs take turns (ours, timm's, ours, ...), so that a change of the
machine's speed meets both, and a row gives the median of its rounds. A row is given ``--seconds`` of time, but
never fewer than two rounds. Needs timm (``pip install volo[train]``).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from machine import machine
from rich.console import Console
from rich.table import Table
from timm.models.volo import VOLO as TimmVOLO
from torch import Tensor, nn

from volo.models import VARIANTS, VOLOConfig, create_model

TRAINED = ("volo_micro_32", "volo_tiny_32", "volo_d1_224")
Step = Callable[[], None]


def timm_model(name: str, config: VOLOConfig) -> nn.Module:
    """The model that timm has by that name, or timm's class in our configuration where timm has no such size."""
    if timm.is_model(name):
        return timm.create_model(name)
    return TimmVOLO(
        layers=config.depths,
        embed_dims=[config.dims[0], *[config.dims[1]] * 3],
        num_heads=[config.heads[0], *[config.heads[1]] * 3],
        patch_size=config.patch_size,
        stem_hidden_dim=config.stem_width,
        mlp_ratio=config.mlp_ratio,
        img_size=config.img_size,
        num_classes=config.num_classes,
    )


def build_pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Our model and timm's with equal weights, each in memory of its own."""
    ours = create_model(name)
    with torch.device("meta"):
        theirs = timm_model(name, ours.config)
    weights = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    theirs.load_state_dict(weights, assign=True)
    return ours, theirs


def inference_step(model: nn.Module, images: Tensor) -> Step:
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def training_step(model: nn.Module, images: Tensor) -> Step:
    """Forward, cross-entropy of the class logits, backward, AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    target = torch.arange(len(images)) % 10

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()

    return step


def seconds_of(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def take_turns(ours: Step, theirs: Step, *, rounds: int, limit: float) -> tuple[list[float], list[float]]:
    """Seconds of every round of both, in turn, after one round of each that is not counted."""
    for step in (ours, theirs):
        step()
    times: tuple[list[float], list[float]] = ([], [])
    begin = time.perf_counter()
    while len(times[0]) < 2 or (len(times[0]) < rounds and time.perf_counter() - begin < limit):
        times[0].append(seconds_of(ours))
        times[1].append(seconds_of(theirs))
    return times


def default_batch(config: VOLOConfig, what: str) -> int:
    """As many images as keep a round short on a small machine."""
    if max(config.img_size) <= 32:
        return 64
    small = config.dims[1] <= 384 and max(config.img_size) <= 224
    return (8 if what == "inference" else 4) if small else 1


def measure(name: str, what: str, options: argparse.Namespace) -> dict:
    """One row: median images per second of both, and how often ours is as fast as timm's."""
    batch = options.batch or default_batch(VARIANTS[name], what)
    images = torch.randn(batch, 3, *VARIANTS[name].img_size)
    make = inference_step if what == "inference" else training_step
    ours, theirs = (make(model, images) for model in build_pair(name))
    rates = [
        [batch / s for s in times] for times in take_turns(ours, theirs, rounds=options.rounds, limit=options.seconds)
    ]
    mine, others = (statistics.median(side) for side in rates)
    row = {"model": name, "what": what, "batch": batch, "rounds": len(rates[0])}
    return row | {
        "ours": mine,
        "timm": others,
        "ratio": mine / others,
        "every_round": {"ours": rates[0], "timm": rates[1]},
    }


def table_of(rows: list[dict], facts: dict) -> Table:
    table = Table(title="images per second; " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    for column in ("model", "what", "batch", "rounds", "ours", "timm", "ratio"):
        table.add_column(column, justify="left" if column in ("model", "what") else "right", no_wrap=True)
    for row in rows:
        counts = (row["model"], row["what"], str(row["batch"]), str(row["rounds"]))
        table.add_row(*counts, f"{row['ours']:.2f}", f"{row['timm']:.2f}", f"{row['ratio']:.2f}×")
    return table


def jobs_of(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(model, what) of every row; ``--what training`` trains the models that are asked for, whatever their size."""
    if options.what == "training":
        return [(name, "training") for name in options.models or TRAINED]
    names = options.models or list(VARIANTS)
    trained = [name for name in names if name in TRAINED and options.what == "both"]
    return [(name, "inference") for name in names] + [(name, "training") for name in trained]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=VARIANTS, metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    choices = ("inference", "training", "both")
    parser.add_argument("--what", choices=choices, default="both", help=f"both: training of {', '.join(TRAINED)} alone")
    parser.add_argument("--batch", type=int, help="default: 64 for 32 pixels, 8 or 4 (training) up to D1@224, else 1")
    parser.add_argument("--rounds", type=int, default=15, help="most rounds of a row")
    parser.add_argument("--seconds", type=float, default=12, help="time after which a row starts no further round")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--quick", action="store_true", help="three rounds and three seconds at most")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number, row by row")
    options = parser.parse_args()
    if options.batch is not None and options.batch < 1:
        parser.error(f"--batch must be at least 1, not {options.batch}")
    if options.quick:
        options.rounds, options.seconds = 3, 3.0
    return options


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    console, facts, rows = Console(), machine("timm"), []
    for name, what in jobs_of(options):
        rows.append(measure(name, what, options))
        console.print(f"{name} {what}: {rows[-1]['ours']:.2f} images/s, {rows[-1]['ratio']:.2f}× timm's")
        if options.json:
            options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")
    console.print(table_of(rows, facts))


if __name__ == "__main__":
    main()
