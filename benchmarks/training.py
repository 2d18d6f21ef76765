"""How many images a second does ``volo train`` train on, beside a plain loop made of timm's parts?

    python benchmarks/training.py FOLDER --model volo_micro_32       # any folder of images; labels do not matter here
    python benchmarks/training.py FOLDER --model volo_d0_224 --batch 8 --images 160

Decoding, augmentation, the model, the loss, AdamW, the average of the weights (EMA): all of it. timm's loop is its
loader and augmentation, its VOLO in the same configuration, its optimizer and schedule factories, its ``ModelEmaV3``
and its label-smoothing cross-entropy on ``forward``: what its training script does with these settings. ``ours`` is a
run of ``volo.training``, of which its own ``images_per_second`` is taken:

- ``ours, same loss``: the cross-entropy of the logits of inference, as timm's loop has it;
- ``ours``: the paper's dense loss of every token, and MixToken, which timm's model cannot be trained with (its
  ``forward_train`` gives no class logits).

Each run has its own process; the candidates run in interleaved rounds, and every epoch but the first is counted.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from loading_images import timm_loader
from machine import machine
from models import timm_model
from rich.console import Console
from rich.table import Table
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

from volo.data import find_images
from volo.models import VARIANTS
from volo.tasks.losses import LossConfig
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.run import train

CANDIDATES = ("timm", "ours, same loss", "ours")
CLASSES = 10
DROP_PATH = 0.1


def prepare(folder: Path, count: int, to: Path) -> None:
    """Link ``count`` images of ``folder``, evenly chosen, into ``to/train/<class>``, and a few into ``to/val``."""
    images = find_images([str(folder)])
    chosen = images[:: max(1, len(images) // count)][:count]
    for number, image in enumerate(chosen):
        for part in ("train", "val") if number < 2 * CLASSES else ("train",):
            link = to / part / f"class {number % CLASSES}" / f"{number}{image.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(image.resolve())


def configuration(options: argparse.Namespace, output: str) -> TrainConfig:
    alone = options.candidate == "ours, same loss"
    return TrainConfig(
        data=DataConfig(path=str(options.folder), workers=options.workers),
        model=ModelConfig(name=options.model, drop_path_rate=DROP_PATH),
        loss=LossConfig(dense_weight=0.0, mix_token=False) if alone else LossConfig(),
        optim=OptimConfig(warmup_epochs=0.5, ema_decay=0.9999),
        epochs=options.epochs,
        batch_size=options.batch,
        output=output,
    )


def run_ours(options: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        train(configuration(options, f"{folder}/run"))
        with Path(folder, "run", "metrics.csv").open(encoding="utf-8") as file:
            return [float(row["images_per_second"]) for row in csv.DictReader(file)]


def run_timm(options: argparse.Namespace) -> list[float]:
    """Run a plain training loop of timm with the settings of :func:`configuration`."""
    config = configuration(options, "")
    architecture = replace(VARIANTS[options.model], num_classes=CLASSES, drop_path_rate=DROP_PATH)
    loader = timm_loader(options.folder / "train", architecture.img_size[0], options.batch, options.workers)
    model = timm_model(options.model, architecture)
    optimizer = create_optimizer_v2(model, "adamw", lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    steps = config.epochs * (options.images // options.batch)
    schedule = CosineLRScheduler(optimizer, steps, lr_min=config.optim.min_lr, t_in_epochs=False)
    average = ModelEmaV3(model, decay=config.optim.ema_decay)
    loss_of = LabelSmoothingCrossEntropy(config.loss.label_smoothing)
    model.train()
    speeds, step = [], 0
    for _ in range(config.epochs):
        start, count = time.perf_counter(), 0
        for images, labels in loader:
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            optimizer.step()
            step += 1
            average.update(model, step=step)
            schedule.step_update(step)
            count += len(images)
        speeds.append(count / (time.perf_counter() - start))
    return speeds


def run(candidate: str, folder: Path, options: argparse.Namespace) -> list[float]:
    """Images per second of every epoch but the first, of one run in a process of its own."""
    arguments = [sys.executable, __file__, str(folder), "--candidate", candidate]
    for name in ("model", "batch", "images", "epochs", "workers"):
        arguments += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{candidate} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])[1:]


def table_of(title: str, speeds: dict[str, list[float]]) -> Table:
    table = Table(title=title)
    for column in ("", "images/s", "to timm", "epochs"):
        table.add_column(column, justify="right" if column else "left")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median:.1f}", f"{median / medians['timm']:.2f}×", str(len(speeds[name])))
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=VARIANTS, default="volo_micro_32", metavar="NAME")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=2048, help="images of an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="of a run, the first of which is not counted")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--workers", type=int, default=1, help="processes that load")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number")
    parser.add_argument("--candidate", choices=CANDIDATES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.candidate:
        print(json.dumps((run_timm if options.candidate == "timm" else run_ours)(options)))
        return
    speeds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    with tempfile.TemporaryDirectory() as folder:
        prepare(options.folder, options.images, Path(folder))
        for _ in range(options.rounds):
            for name, values in speeds.items():
                values += run(name, Path(folder), options)
    facts = machine("timm", "pytorch-lightning")
    title = f"{options.model}, batches of {options.batch}, {facts['threads']} threads, {options.workers} workers"
    Console().print(table_of(title, speeds), facts["cpu"])
    if options.json:
        written = {"machine": facts, "title": title, "images_per_second": speeds}
        options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
