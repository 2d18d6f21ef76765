"""Does VOLO do what its paper says, at a scale that anyone can repeat? Each table is one command.

    python benchmarks/evidence.py split cifar10 --out cifar10.csv      # validation: the last 500 images of each class
    python benchmarks/evidence.py teacher --data cifar10.csv           # a ResNet, and token labels by it
    python benchmarks/evidence.py labels --data cifar10.csv            # what a token learns
    python benchmarks/evidence.py first-stage --data cifar10.csv       # what mixes the first stage's tokens
    python benchmarks/evidence.py peers --like runs/volo               # networks of timm, trained as that run was
    python benchmarks/evidence.py report --docs docs                   # tables and pictures of what is there

A command that was stopped or killed is resumed when it is given again; what is finished is not repeated. Needs
``volo[train]``.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from evidence_report import report
from experiment import RESULT, Result, Variant, epoch_times, outcome, train_table, train_variant, write
from first_stage import Replacement, convolution, count, replace_outlookers, window_attention
from rich.console import Console
from safetensors.torch import save_file
from timm_peers import RESNET, VIT, Baseline, resnet18_half_32_dense, train_baseline

from volo.data import AugmentConfig, open_data, open_splits, open_training_data, with_channels
from volo.data.splits import UNSPLIT
from volo.files import atomic_write
from volo.labeling.label import LabelOptions, label_images
from volo.labeling.teachers import load_teacher
from volo.models import load_model
from volo.precision import canonical_precision
from volo.tasks.losses import LossConfig
from volo.training.callbacks.checkpoints import LAST_CHECKPOINT, Interrupted
from volo.training.config import (
    METRICS_FILE,
    RUN_CONFIG_FILE,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from volo.training.run import Run

MICRO = "volo_micro_32"
#: Images of every class for validation: the last by name.
HELD_OUT = 500
#: one label for an image, learned by the logits of inference alone.
LABELS_ALONE = LossConfig(dense_weight=0.0, mix_token=False)


def common(options: argparse.Namespace) -> TrainConfig:
    """Return the common configuration of the runs on CIFAR-10; in few epochs strong augmentation costs accuracy."""
    data = DataConfig(path=options.data, workers=0)
    check_parts(data)
    return TrainConfig(
        data=data,
        model=ModelConfig(name=MICRO),
        augment=AugmentConfig(rand_augment=0.0, crop_scale=(0.64, 1.0), erasing=0.0),
        optim=OptimConfig(lr=2e-3, warmup_epochs=options.epochs / 12),
        epochs=options.epochs,
        batch_size=128,
        checkpoint_minutes=2.0,
        accelerator="cpu",
        precision=options.precision,
    )


def check_parts(data: DataConfig) -> None:
    """Check that all seeds are evaluated on the same images."""
    if UNSPLIT in open_splits(data.path, source=data):
        raise ValueError(f"{data.path} has no part for validation, which every seed would draw anew: split it first")


def baseline_config(config: TrainConfig, baseline: Baseline, **loss: float) -> TrainConfig:
    """Return the configuration of a run of ``baseline``; its other settings are those of ``config``."""
    return replace(
        config,
        data=replace(config.data, token_labels=None),
        model=replace(config.model, pretrained=None),
        loss=replace(LABELS_ALONE, **loss),
        optim=OptimConfig(
            optimizer="muon",
            lr=baseline.lr * config.batch_size / 128,
            warmup_epochs=config.epochs / 16,
            warmup_lr=1e-4,
            ema_decay=config.optim.ema_decay,
        ),
    )


def teacher(options: argparse.Namespace, console: Console) -> None:
    """Train a ResNet on the labels alone, and name by it what every region of the training images shows."""
    # Smoothed targets would make a worse teacher: they teach it that all wrong classes are equally wrong.
    config = replace(baseline_config(common(options), RESNET, label_smoothing=0.0), seed=options.seed)
    variant = Variant(key="teacher", name=RESNET.name, config=config, change=partial(train_baseline, baseline=RESNET))
    folder = options.out / "teacher"
    last = train_variant(variant, folder, console)["epochs"][-1]
    console.print(f"the teacher's top-1 after {last['epoch']:.0f} epochs: {last['val_top1']:.2%}", highlight=False)
    images = with_channels(open_training_data(options.data), 3)
    weights, classes = folder / "weights.safetensors", folder / "classes.txt"
    deliver(folder / LAST_CHECKPOINT, weights)
    with atomic_write(classes) as temporary:
        temporary.write_text("\n".join(images.class_names) + "\n", encoding="utf-8")
    done = label_images(
        load_teacher(resnet18_half_32_dense.__name__, weights=str(weights), classes=str(classes)),
        images,
        store(options),
        data=options.data,
        options=LabelOptions(flip=True, top_k=len(images.class_names)),
        batch_size=128,
        precision=torch.float32 if options.precision == "fp32" else torch.bfloat16,
    )
    console.print(f"{done.labeled:,} images labeled, {done.before:,} were before; the labels: {store(options)}")


def store(options: argparse.Namespace) -> Path:
    """Where the teacher's token labels are."""
    return options.out / "token-labels"


def deliver(checkpoint: Path, weights: Path) -> None:
    """Write the weights of a run's last epoch as safetensors."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    with atomic_write(weights) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)


def labels(options: argparse.Namespace, console: Console) -> None:
    """One label for the image, the same for every token, or each token its own; with and without MixToken."""
    if not store(options).exists():
        raise ValueError(f"there are no token labels {store(options)}: give the command teacher first")
    config = common(options)
    labeled = replace(config.data, token_labels=str(store(options)))
    mixed, unmixed = LossConfig(), LossConfig(mix_token=False)
    variants = [
        Variant(place=place, key=key, name=name, config=replace(config, data=data, loss=loss))
        for place, (key, name, data, loss) in enumerate(
            (
                ("plain", "plain labels", config.data, LABELS_ALONE),
                ("dense", "repeated for every token", config.data, unmixed),
                ("dense-mixed", "repeated for every token, MixToken", config.data, mixed),
                ("teacher", "token labels of the teacher", labeled, unmixed),
                ("teacher-mixed", "token labels of the teacher, MixToken", labeled, mixed),
            )
        )
    ]
    train_table(options.out / "labels", variants, seeds=options.seeds, seconds=None, console=console)


def first_stage(options: argparse.Namespace, console: Console) -> None:
    """Outlook attention beside a convolution and self-attention in windows."""
    config = replace(common(options), loss=LossConfig(mix_token=False))

    def change(run: Run, replacement: Replacement) -> None:
        replace_outlookers(run.task.model, replacement, run.config.seed)

    variants = [
        Variant(key="outlook", name="outlook attention", config=config),
        Variant(
            place=1,
            key="convolution",
            name="3×3 depthwise-separable convolution",
            config=config,
            change=partial(change, replacement=convolution),
        ),
        Variant(
            place=2,
            key="windows",
            name="self-attention in windows of 4×4",
            config=config,
            change=partial(change, replacement=window_attention),
        ),
    ]
    train_table(options.out / "first-stage", variants, seeds=options.seeds, seconds=None, console=console)


def peers(options: argparse.Namespace, console: Console) -> None:
    """Networks of timm on the data of a run of volo train, with its augmentation, for as long."""
    folder, config = options.out / "peers", TrainConfig.load(options.like / RUN_CONFIG_FILE)
    check_parts(config.data)
    own = Variant(key="volo", name=config.model.name, config=replace(config, output=None))
    shared = by_one_process(own.config)
    variants = [
        Variant(
            place=place,
            key=key,
            name=name,
            config=baseline_config(shared, baseline, label_smoothing=config.loss.label_smoothing),
            change=partial(train_baseline, baseline=baseline),
        )
        for place, key, name, baseline in (
            (1, "resnet", "timm's ResNet-18, half as wide, stem for 32 pixels", RESNET),
            (2, "vit", "timm's ViT-Ti, 9 blocks, patches of 4", VIT),
        )
    ]
    times = epoch_times(folder, [replace(own, config=shared), *variants], console)
    write(folder / "volo" / RESULT, finished_run(options.like, own, times["volo"]))
    seconds = 60 * options.minutes if options.minutes else config.epochs * times["volo"]
    train_table(folder, variants, seeds=options.seeds, seconds=seconds, console=console)


def by_one_process(config: TrainConfig) -> TrainConfig:
    """Return the configuration of the same steps in one process that also loads: only its time is counted.

    ``devices: auto`` counts as one process, which it is on a CPU.
    """
    devices = config.devices if isinstance(config.devices, int) else 1
    return replace(
        config,
        devices=1,
        nodes=1,
        batch_size=config.batch_size * devices * config.nodes,
        data=replace(config.data, workers=0),
    )


def finished_run(folder: Path, variant: Variant, seconds: float) -> Result:
    """Return the result of a run of ``volo train`` in the form of an experiment's; ``seconds`` of CPU time an epoch."""
    config = variant.config
    with (folder / METRICS_FILE).open(newline="", encoding="utf-8") as file:
        epochs = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    images = open_data(config.data.path, val_fraction=config.data.val_fraction, seed=config.seed, source=config.data)
    return outcome(
        variant,
        parameters=count(load_model(folder).model),
        images=[len(part.labels) for part in images],
        epochs=[{**epoch, "cpu_seconds": seconds} for epoch in epochs],
    )


def split(options: argparse.Namespace, console: Console) -> None:
    """Write a table of images in which the last of every class are for validation."""
    images = open_training_data(str(options.folder))
    left, rows = Counter(images.labels), []
    for path, label in zip(images.paths, images.labels, strict=True):
        part = "train" if left[label] > HELD_OUT else "val"
        left[label] -= 1
        rows.append((path.absolute(), images.class_names[label], part))
    with atomic_write(options.table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])
    parts = Counter(part for _, _, part in rows)
    console.print(f"{options.table}: {parts['train']:,} images to train on, {parts['val']:,} for validation")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace, Console], None], name: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    def add_out(added: argparse.ArgumentParser) -> None:
        added.add_argument("--out", type=Path, default=Path("evidence"), help="folder of all runs (evidence)")

    added = command(split, "split")
    added.add_argument("folder", type=Path, help="folder of class folders, or with a folder train of such")
    added.add_argument("--out", dest="table", type=Path, required=True, help="the table, CSV")
    for run, name, epochs in ((teacher, "teacher", 8), (labels, "labels", 6), (first_stage, "first-stage", 6)):
        added = command(run, name)
        add_out(added)
        added.add_argument("--data", required=True, help="table of split, or folder with train and val")
        added.add_argument("--precision", type=canonical_precision, default="fp32", help="fp32, bf16 or fp16 (fp32)")
        added.add_argument("--epochs", type=int, default=epochs, help=f"of the first variant ({epochs})")
        if run is teacher:
            added.add_argument("--seed", type=int, default=0)
        else:
            added.add_argument("--seeds", type=int, default=2, help="of every variant (2)")
    added = command(peers, "peers")
    add_out(added)
    added.add_argument("--like", type=Path, required=True, help="folder of a finished run of volo train")
    added.add_argument("--minutes", type=float, help="of CPU time for each network; default: that of the run")
    added.add_argument("--seeds", type=int, default=1, help="of every network (1)")
    added = command(make_report, "report")
    add_out(added)
    added.add_argument("--docs", type=Path, default=Path("docs"), help="folder with evidence.md (docs)")
    return parser.parse_args()


def make_report(options: argparse.Namespace, console: Console) -> None:
    """Put the tables of the runs that have ended into evidence.md, and draw their curves beside it."""
    for written in report(options.out, options.docs / "evidence.md"):
        console.print(f"{written} is written")


def main() -> int:
    options, console = parse(), Console()
    try:
        options.run(options, console)
    except Interrupted as interruption:
        console.print("stopped; give the same command again to resume")
        return 128 + interruption.signal
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
