"""Compare the speed of loading training batches of photos with timm's loader, in images per second.

    python benchmarks/loading_images.py FOLDER                       # any folder of images, at any depth
    python benchmarks/loading_images.py FOLDER --what decoders       # who decodes a JPEG fastest

All loaders read the same files with as many workers, make batches of the same size, normalize them and erase boxes:
flip, ``rand-m9-mstd0.5-inc1``, crops of the same shares and shapes, bilinear or bicubic at random, erasing 0.25. timm's
own order is crop, flip, RandAugment on the small crop. The paper's is flip, RandAugment on the whole image, and then
the crop; ``timm, our order`` runs timm's operations in that order, to compare like with like. timm's Posterize keeps no
bit at its highest level, which today's Pillow refuses: here it keeps one, as ours does. The loaders run in interleaved
rounds of one epoch each, and a row gives the median of its rounds.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import machine
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data import ImageDataset, create_loader
from timm.data.auto_augment import LEVEL_TO_ARG
from timm.data.loader import PrefetchLoader
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import Compose

from volo.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AugmentConfig,
    EpochSampler,
    FileImages,
    Preprocessing,
    TrainImages,
    TrainTransform,
    find_images,
    train_loader,
)

Epoch = Callable[[], Iterable[Tensor]]


@contextmanager
def mended_posterize() -> Iterator[None]:
    """Let timm draw at least one bit to keep."""
    drawn = LEVEL_TO_ARG["PosterizeIncreasing"]
    LEVEL_TO_ARG["PosterizeIncreasing"] = lambda level, hparams: (max(1, drawn(level, hparams)[0]),)
    try:
        yield
    finally:
        LEVEL_TO_ARG["PosterizeIncreasing"] = drawn


@mended_posterize()
def timm_loader(folder: Path, size: int, batch: int, workers: int, *, our_order: bool = False) -> PrefetchLoader:
    """Return the loader of timm; ``our_order`` puts the crop after the flip and RandAugment."""
    config = AugmentConfig()
    loader = create_loader(
        ImageDataset(str(folder)),
        input_size=(3, size, size),
        batch_size=batch,
        is_training=True,
        re_prob=config.erasing,
        re_mode="pixel",
        scale=config.resolved_crop_scale((size, size)),
        ratio=config.crop_ratio,
        hflip=config.hflip,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="random",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        num_workers=workers,
        persistent_workers=workers > 0,
        device=torch.device("cpu"),
    )
    if our_order:
        crop, flip, augment, *rest = loader.dataset.transform.transforms
        loader.dataset.transform = Compose([flip, augment, crop, *rest])
    return loader


def images_of(loader: PrefetchLoader) -> Epoch:
    return lambda: (images for images, _ in loader)


def our_loader(folder: Path, size: int, batch: int, workers: int) -> Epoch:
    """Our loader, with what the training step does to its batches before the model."""
    config, preprocessing = AugmentConfig(), Preprocessing(size=(size, size))
    paths = find_images([str(folder)])
    images = TrainImages(FileImages(paths, [0] * len(paths), ("any",)), TrainTransform(config, preprocessing), seed=0)
    sampler = EpochSampler(len(images), seed=0)
    loader = train_loader(images, sampler, batch_size=batch, workers=workers)
    erase = RandomErasing(config.erasing, mode="pixel", device="cpu")

    def epoch() -> Iterable[Tensor]:
        sampler.set_epoch(sampler.epoch + 1)
        return (erase(preprocessing.normalize(images)) for images, *_ in loader)

    return epoch


def images_per_second(epoch: Epoch) -> float:
    start, count = time.perf_counter(), 0
    for images in epoch():
        count += len(images)
    return count / (time.perf_counter() - start)


def decoders(folder: Path) -> dict[str, Epoch]:
    """Each decodes the files of a folder, from memory, into (H, W, 3) or (3, H, W) uint8; those installed."""
    import torchvision.io

    files = [path.read_bytes() for path in find_images([str(folder)]) if path.suffix.lower() in (".jpg", ".jpeg")]
    tensors = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    found: dict[str, Epoch] = {
        "Pillow": lambda: ([Image.open(io.BytesIO(file)).convert("RGB")] for file in files),
        "Pillow, to an array": lambda: (
            np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))[None] for file in files
        ),
        "torchvision": lambda: (torchvision.io.decode_jpeg(tensor, "RGB")[None] for tensor in tensors),
    }
    if find_spec("simplejpeg"):
        import simplejpeg

        found["simplejpeg"] = lambda: (simplejpeg.decode_jpeg(file)[None] for file in files)
        found["simplejpeg, to Pillow"] = lambda: ([Image.fromarray(simplejpeg.decode_jpeg(file))] for file in files)
    return found


def run_interleaved(candidates: dict[str, Epoch], *, rounds: int, limit: float) -> dict[str, list[float]]:
    """Images per second of every round of each, in turn, after one round that is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in candidates}
    begin = time.perf_counter()
    for number in range(rounds + 1):
        for name, epoch in candidates.items():
            speed = images_per_second(epoch)
            if number:
                speeds[name].append(speed)
        if number >= 2 and time.perf_counter() - begin > limit:
            break
    return speeds


def table_of(title: str, speeds: dict[str, list[float]], base: str) -> Table:
    table = Table(title=title)
    for column in ("", "images/s", "ms an image", f"to {base}", "rounds"):
        table.add_column(column, justify="right" if column else "left")
    first = statistics.median(speeds[base])
    for name, values in speeds.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:.0f}", f"{1e3 / median:.2f}", f"{median / first:.2f}×", str(len(values)))
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--what", choices=("loaders", "decoders"), default="loaders")
    parser.add_argument("--size", type=int, default=224, help="pixels, the side of the batches")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15, help="most rounds of each")
    parser.add_argument("--seconds", type=float, default=50, help="time after which no further round starts")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    if options.what == "loaders":
        given = (options.folder, options.size, options.batch, options.workers)
        candidates = {
            "timm": images_of(timm_loader(*given)),
            "timm, our order": images_of(timm_loader(*given, our_order=True)),
            "ours": our_loader(*given),
        }
        title = f"{options.size} pixels, batches of {options.batch}, {options.workers} workers"
    else:
        candidates, title = decoders(options.folder), "decoding, one thread"
    speeds = run_interleaved(candidates, rounds=options.rounds, limit=options.seconds)
    facts = machine("timm", "pillow", "torchvision")
    Console().print(table_of(title, speeds, next(iter(speeds))), facts["cpu"])
    if options.json:
        options.json.write_text(
            json.dumps({"machine": facts, "title": title, "images_per_second": speeds}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
