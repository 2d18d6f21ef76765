"""Does the method do what the paper says, at a scale that anyone can repeat? Each table is one command.

    python benchmarks/evidence.py split cifar10 --out cifar10.csv             # the last 500 images of a class judge
    python benchmarks/evidence.py teacher --data cifar10.csv --out evidence   # a ResNet, and token labels by it

A command that was stopped goes on when it is given again; what is finished is not repeated. Needs ``volo[train]``.
"""

import argparse
import csv
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from experiment import Variant, train_variant
from rich.console import Console
from safetensors.torch import save_file
from timm_peers import DENSE_RESNET, RESNET, peer

from volo.data import AugmentConfig, open_training_data, with_channels
from volo.files import replacing
from volo.inference.labelling import LabelOptions, label_images
from volo.inference.teachers import load_teacher
from volo.tasks.losses import LossConfig
from volo.training.checkpoints import LAST_CHECKPOINT, Interrupted
from volo.training.config import PRECISIONS, DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.run import Run

MICRO = "volo_micro_32"
#: images of every class, the last by name, that judge.
HELD_OUT = 500


def base(options: argparse.Namespace) -> TrainConfig:
    """What all runs have in common."""
    return TrainConfig(
        data=DataConfig(path=str(options.data), workers=0),
        model=ModelConfig(name=MICRO),
        batch_size=128,
        precision=options.precision,
        checkpoint_minutes=2.0,
        accelerator="cpu",
    )


def teacher(options: argparse.Namespace, console: Console) -> None:
    """Train a ResNet on the labels alone, with light augmentation, and label the training images' regions by it."""
    config = replace(
        base(options),
        augment=AugmentConfig(rand_augment=0.0, crop_scale=(0.64, 1.0), erasing=0.0),
        loss=LossConfig(label_smoothing=0.0, dense_weight=0.0, mix_token=False),
        optim=OptimConfig(lr=0.1, weight_decay=5e-4, warmup_epochs=options.epochs / 5, warmup_lr=4e-3, min_lr=1e-5),
        epochs=options.epochs,
        seed=options.seed,
    )

    def change(run: Run) -> None:
        run.task = peer(RESNET, run)

    folder = options.out / "teacher"
    result = train_variant(Variant(key="teacher", name=RESNET, config=config, change=change), folder, console)
    last = result["epochs"][-1]
    console.print(f"the teacher: top-1 {last['val_top1']:.2%} after {len(result['epochs'])} epochs")
    images = with_channels(open_training_data(config.data.path), 3)
    weights, classes = folder / "weights.safetensors", folder / "classes.txt"
    deliver(folder / LAST_CHECKPOINT, weights)
    with replacing(classes) as temporary:
        temporary.write_text("\n".join(images.class_names) + "\n", encoding="utf-8")
    store = options.out / "token-labels"
    report = label_images(
        load_teacher(DENSE_RESNET, weights=str(weights), classes=str(classes)),
        images,
        store,
        data=config.data.path,
        options=LabelOptions(flip=True, top_k=len(images.class_names)),
        batch_size=128,
        precision=torch.float32 if config.precision == "32-true" else torch.bfloat16,
    )
    console.print(f"{report.labelled:,} images labelled, {report.before:,} before: {store}")


def deliver(checkpoint: Path, weights: Path) -> None:
    """Write the weights of a run's last epoch as safetensors."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    with replacing(weights) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)


def split(options: argparse.Namespace, console: Console) -> None:
    """Write a table of the images in which the last of every class are for validation."""
    images = open_training_data(str(options.folder))
    rows, left = [], Counter(images.labels)
    for path, label in zip(images.paths, images.labels, strict=True):
        part = "train" if left[label] > HELD_OUT else "val"
        left[label] -= 1
        rows.append((path.absolute(), images.class_names[label], part))
    with replacing(options.out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])
    console.print(f"{len(rows):,} images are in {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("split", help="hold the last 500 images of every class out of a folder")
    command.add_argument("folder", type=Path, help="folder of class folders")
    command.add_argument("--out", type=Path, required=True, help="the table (CSV)")
    command.set_defaults(run=split)

    command = commands.add_parser("teacher", help="train a ResNet and label the training images' regions by it")
    of_runs(command)
    command.add_argument("--epochs", type=int, default=16)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=teacher)
    return parser.parse_args()


def of_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", required=True, help="table of split, or folder with train/<class>/*, val/<class>/*")
    command.add_argument("--out", type=Path, required=True, help="folder of all runs")
    command.add_argument("--precision", choices=PRECISIONS, default="32-true")


def main() -> int:
    options, console = parse(), Console()
    try:
        options.run(options, console)
    except Interrupted as interruption:
        console.print("stopped; the same command goes on")
        return 128 + interruption.signal
    return 0


if __name__ == "__main__":
    sys.exit(main())
