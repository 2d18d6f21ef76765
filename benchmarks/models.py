"""Compare images per second of a whole VOLO with timm's, in inference and in a training step.

    python benchmarks/models.py                                      # every size, a few minutes on two cores
    python benchmarks/models.py --quick --models volo_micro_32 volo_d1_224 --json speed.json
    python benchmarks/models.py --models volo_d1_224 --what inference --pixels 224 448 896

All have the same weights, and timm's model is built for the size at hand. They run in interleaved rounds, so that a
change of the machine's speed affects all of them, and a row gives the medians of its rounds. A row takes ``--seconds``,
but never fewer than two rounds. Needs timm (``pip install volo[train]``). Compiled and exported models, memory and
start-up are measured by ``volo bench``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from machine import machine
from rich.console import Console
from rich.table import Table
from timm.models.volo import VOLO as TimmVOLO
from torch import Tensor, nn

from volo import optimize_for_inference
from volo.models import VARIANTS, VOLOConfig, create_model

#: timm's VOLO takes no other patch sizes.
NAMES = [name for name, config in VARIANTS.items() if config.patch_size in (4, 8, 16)]
TRAINED = ("volo_micro_32", "volo_small_32", "volo_d1_224")
Step = Callable[[], None]


def timm_model(name: str, config: VOLOConfig) -> nn.Module:
    """Return the model of timm with this name, or timm's class in our configuration if timm has no such size."""
    training = {"num_classes": config.num_classes, "drop_path_rate": config.drop_path_rate}
    if timm.is_model(name):
        return timm.create_model(name, img_size=config.img_size, **training)
    return TimmVOLO(
        layers=config.depths,
        embed_dims=[config.dims[0], *[config.dims[1]] * 3],
        num_heads=[config.heads[0], *[config.heads[1]] * 3],
        patch_size=config.patch_size,
        stem_hidden_dim=config.stem_width,
        mlp_ratio=config.mlp_ratio,
        img_size=config.img_size,
        **training,
    )


def build_pair(name: str, config: VOLOConfig) -> tuple[nn.Module, nn.Module]:
    """Our model and timm's with equal weights, each in memory of its own."""
    ours = create_model(name, img_size=config.img_size)
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


def inference_steps(ours: nn.Module, theirs: nn.Module, images: Tensor) -> dict[str, Step]:
    optimized = optimize_for_inference(ours)
    models = {"timm": theirs, "ours": ours, "optimized": optimized}
    return {name: inference_step(model, images) for name, model in models.items()}


def run_interleaved(steps: dict[str, Step], *, rounds: int, limit: float) -> dict[str, list[float]]:
    """Seconds of every round of each, in turn, after one round that is not counted."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    begin, done = time.perf_counter(), 0
    while done < 2 or (done < rounds and time.perf_counter() - begin < limit):
        for name, step in steps.items():
            times[name].append(seconds_of(step))
        done += 1
    return times


def default_batch(config: VOLOConfig, what: str) -> int:
    """As many images as keep a round short on a small machine."""
    if max(config.img_size) <= 32:
        return 64
    small = config.dims[1] <= 384 and max(config.img_size) <= 224
    return (8 if what == "inference" else 4) if small else 1


def measure(name: str, what: str, pixels: int | None, options: argparse.Namespace) -> dict:
    """One row: median images per second of each, and its ratio to timm's."""
    config = VARIANTS[name] if pixels is None else replace(VARIANTS[name], img_size=(pixels, pixels))
    batch = options.batch or default_batch(config, what)
    images = torch.randn(batch, 3, *config.img_size)
    ours, theirs = build_pair(name, config)
    if what == "inference":
        steps = inference_steps(ours, theirs, images)
    else:
        steps = {"timm": training_step(theirs, images), "ours": training_step(ours, images)}
    times = run_interleaved(steps, rounds=options.rounds, limit=options.seconds)
    row = {"model": name, "what": what, "pixels": config.img_size[0], "batch": batch, "rounds": len(times["timm"])}
    medians = {key: batch / statistics.median(seconds) for key, seconds in times.items()}
    ratios = {key: rate / medians["timm"] for key, rate in medians.items()}
    return row | {"images_per_second": medians, "ratio": ratios, "seconds_of_every_round": times}


def table_of(rows: list[dict], facts: dict) -> Table:
    table = Table(title="images per second; " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    for column in ("model", "what", "pixels", "batch", "rounds", "who", "images/s", "to timm"):
        table.add_column(column, justify="left" if column in ("model", "what", "who") else "right", overflow="fold")
    for row in rows:
        heads = [str(row[key]) for key in ("model", "what", "pixels", "batch", "rounds")]
        for name, rate in row["images_per_second"].items():
            table.add_row(*heads, name, f"{rate:.2f}", f"{row['ratio'][name]:.2f}×")
            heads = [""] * len(heads)
        table.add_section()
    return table


def jobs_of(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(model, what) of every row; ``--what training`` trains the models that are asked for, whatever their size."""
    if options.what == "training":
        return [(name, "training") for name in options.models or TRAINED]
    names = options.models or NAMES
    trained = [name for name in names if name in TRAINED and options.what == "both"]
    return [(name, "inference") for name in names] + [(name, "training") for name in trained]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    choices = ("inference", "training", "both")
    parser.add_argument("--what", choices=choices, default="both", help=f"both: training of {', '.join(TRAINED)} alone")
    parser.add_argument("--pixels", nargs="+", type=int, default=[None], help="sides of images; default: the model's")
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
    for pixels in options.pixels:
        for name, what in jobs_of(options):
            rows.append(measure(name, what, pixels, options))
            done = ", ".join(f"{key} {ratio:.2f}×" for key, ratio in rows[-1]["ratio"].items())
            console.print(f"{name} {what} at {rows[-1]['pixels']} pixels: {done}", highlight=False, soft_wrap=True)
            if options.json:
                options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")
    console.print(table_of(rows, facts))


if __name__ == "__main__":
    main()
