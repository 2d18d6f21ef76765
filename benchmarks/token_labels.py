"""What token labels cost: while labeling, in the loader, in a training step, and in the store at ImageNet's size.

    python benchmarks/token_labels.py FOLDER                 # a folder of class folders of photos
    python benchmarks/token_labels.py FOLDER --what store    # labeling, loader, step or store alone

- ``labeling``: ``label_images`` beside the same loader, teacher and choice of the best classes without writing.
- ``loader``: training batches with labels beside the same batches without, at 224 and at 32 pixels.
- ``step``: one forward and backward pass of the training task with labels beside one without.
- ``store``: opening, and reading one record at random, on sparse stores of 18×18 cells, 5 classes each; the label of a
  record is zero everywhere, which is read from the page cache like any other.

The two run in interleaved rounds, and a row gives the medians of the rounds.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from machine import machine
from rich.console import Console
from rich.table import Table

from volo.data import (
    AugmentConfig,
    EpochSampler,
    FileImages,
    LabelMap,
    LabelMaps,
    Preprocessing,
    TrainImages,
    TrainTransform,
    open_training_data,
    train_loader,
)
from volo.data.classification.dataset import Batch
from volo.data.token_labels.listing import ImageManifest, list_images
from volo.data.token_labels.match import StoreLabels
from volo.data.token_labels.store import LABELED, StoreInfo, TokenLabelStore, read_header
from volo.data.token_labels.writer import TokenLabelWriter, create_store
from volo.labeling.label import Labeler, LabelOptions, label_images, whole_loader
from volo.labeling.teachers import load_teacher
from volo.models import create_model
from volo.tasks.classification import ClassificationTask
from volo.tasks.losses import LossConfig

IMAGENET = 1_281_167
Row = dict[str, str | float]


def compare(name: str, without: Callable[[], float], with_: Callable[[], float], rounds: int, unit: str) -> Row:
    """Medians of what both return, taking turns after one round that does not count."""
    results: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for run, figures in zip((without, with_), results, strict=True):
            value = run()
            if round_:
                figures.append(value)
    one, two = (statistics.median(figures) for figures in results)
    return {"what": name, "unit": unit, "without": one, "with": two, "ratio": two / one}


def labeling(images: FileImages, options: argparse.Namespace) -> list[Row]:
    teacher, given = load_teacher("efficientnet-lite0"), LabelOptions()

    def without() -> float:
        loader = whole_loader(
            images, teacher, given.fit, indices=range(len(images.labels)), batch_size=options.batch,
            workers=options.workers,
        )  # fmt: skip
        label = Labeler(teacher, teacher.columns(images.class_names), given, torch.device("cpu"), torch.float32)
        started = time.perf_counter()
        for batch in loader:
            label(batch)
        return len(images.labels) / (time.perf_counter() - started)

    def with_() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            label_images(
                teacher, images, Path(folder, "labels"), data=str(options.folder), options=given,
                batch_size=options.batch, workers=options.workers,
            )  # fmt: skip
            return len(images.labels) / (time.perf_counter() - started)

    return [compare("labeling", without, with_, options.rounds, "images/s")]


def loading(images: FileImages, options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        labels = random_labels(images, options, Path(folder, "labels"))
        return [
            compare(
                f"loader, {size} pixels",
                lambda: epoch(images, None, size, options),  # noqa: B023  # called at once
                lambda: epoch(images, labels, size, options),  # noqa: B023
                options.rounds,
                "images/s",
            )
            for size in (224, 32)
        ]


def random_labels(images: FileImages, options: argparse.Namespace, path: Path) -> StoreLabels:
    listing = list_images(images, str(options.folder))
    create_store(path, store_info(len(listing.names), images.class_names), listing)
    rng = np.random.default_rng(0)
    with TokenLabelWriter(path) as writer:
        for index in range(len(listing.names)):
            classes = rng.integers(len(images.class_names), size=(1, 18, 18, 5))
            writer.write([index], rng.normal(size=(1, 18, 18, 5)), classes)
    return StoreLabels(TokenLabelStore(path), images, str(options.folder))


def store_info(count: int, class_names: tuple[str, ...]) -> StoreInfo:
    return StoreInfo(
        teacher="none", preprocessing={}, class_names=class_names, count=count, grid=(18, 18), top_k=5, fingerprint=""
    )


def epoch(images: FileImages, labels: StoreLabels | None, size: int, options: argparse.Namespace) -> float:
    transform = TrainTransform(AugmentConfig(), Preprocessing(size=(size, size)))
    sampler = EpochSampler(len(images.labels), seed=0)
    loader = train_loader(
        TrainImages(images, transform, 0, labels), sampler, batch_size=options.batch, workers=options.workers
    )
    batches, started = iter(loader), time.perf_counter()
    done = sum(len(batch.labels) for batch in batches)
    return done / (time.perf_counter() - started)


def steps(options: argparse.Namespace) -> list[Row]:
    return [
        compare(
            f"step, {name}, batch {batch}",
            step(name, batch, classes, labeled=False),
            step(name, batch, classes, labeled=True),
            options.rounds,
            "ms",
        )
        for name, batch, classes in (("volo_micro_32", 64, 10), ("volo_d0_224", 8, 1000))
    ]


def step(name: str, size: int, classes: int, *, labeled: bool) -> Callable[[], float]:
    """Return a function that runs one training step without the optimizer, and returns its milliseconds."""
    model = create_model(name, num_classes=classes)
    generator = torch.Generator().manual_seed(0)
    cells = (4, 4) if classes == 10 else (18, 18)
    maps = LabelMaps(
        torch.randn(size, *cells, 5, generator=generator).half(),
        torch.rand(size, *cells, classes, generator=generator).topk(5).indices.int(),
        torch.tensor([[0.1, 0.2, 0.7, 0.6]]).repeat(size, 1),
    )
    side = model.config.img_size[0]
    batch = Batch(
        torch.randint(256, (size, side, side, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2),
        torch.randint(classes, (size,), generator=generator), torch.arange(size), (), maps if labeled else None,
    )  # fmt: skip
    task = ClassificationTask(
        model.to(memory_format=torch.channels_last), preprocessing=Preprocessing(size=(side, side)), loss=LossConfig(),
        erasing=0.0, seed=0, configure=lambda model: {},
    )  # fmt: skip

    task.trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")

    def run() -> float:
        task.step_generator.manual_seed(0)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            task.training_step(batch, 0).backward()
            times.append(1000 * (time.perf_counter() - started))
        return statistics.median(times)

    return run


def store(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for count in (1_000, 100_000, IMAGENET):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "labels")
            names = [f"n{index % 1000:08}/n{index % 1000:08}_{index}.JPEG" for index in range(count)]
            listing = ImageManifest(names, np.full(count, 110_000), np.arange(count) % 1000)
            create_store(path, store_info(count, tuple(f"n{i:08}" for i in range(1000))), listing, reserve=False)
            with path.open("r+b") as file:  # all of them count as labeled; their records are holes
                file.seek(read_header(path)[1]["states"][0])
                file.write(bytes([LABELED]) * count)
            opening = statistics.median(timed(lambda: TokenLabelStore(path)) for _ in range(21))  # noqa: B023
            opened = TokenLabelStore(path)
            places = np.random.default_rng(0).integers(count, size=5000).tolist()
            reading = statistics.median(timed(read, opened, place) for place in places)
            rows.append({"what": f"open, {count:,} records", "unit": "ms", "with": 1e3 * opening})
            rows.append({"what": f"read one of {count:,}", "unit": "µs", "with": 1e6 * reading})
            gigabytes = path.stat().st_size / 1e9
            rows.append({"what": f"file of {count:,} records", "unit": "GB", "with": gigabytes})
    return rows


def timed(function: Callable, *arguments: object) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def read(opened: TokenLabelStore, index: int) -> LabelMap:
    return opened.read(index)


def main() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of class folders of photos that ImageNet's classes name")
    parser.add_argument("--what", choices=("labeling", "loader", "step", "store"), help="one alone; default: all")
    parser.add_argument("--images", type=int, default=256, help="photos of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="images at a time, of labeling and loading")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    everything = open_training_data(str(options.folder))
    images = FileImages(
        list(islice(everything.paths, options.images)),
        list(everything.labels)[: options.images],
        everything.class_names,
    )
    rows: list[Row] = []
    for name, run in (
        ("labeling", lambda: labeling(images, options)),
        ("loader", lambda: loading(images, options)),
        ("step", lambda: steps(options)),
        ("store", lambda: store(options)),
    ):
        if options.what in (None, name):
            rows += run()
    table = Table(title="without and with token labels")
    for heading in ("what", "unit", "without", "with", "ratio"):
        table.add_column(heading, justify="left" if heading in ("what", "unit") else "right")
    for row in rows:
        cells = [row.get(key, "") for key in ("what", "unit", "without", "with", "ratio")]
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in cells))
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps({"machine": machine("timm"), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
