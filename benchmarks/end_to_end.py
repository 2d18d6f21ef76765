"""How fast are photos named, from their files on: decoding, resizing and the model? Images per second, beside timm.

    python benchmarks/end_to_end.py FOLDER                            # any folder of images, at any depth
    python benchmarks/end_to_end.py FOLDER --images 16 --rounds 3     # a quick look

The same weights (random ones) and the same files for all, who run in interleaved rounds:

- ``timm``: what timm's documentation does: Pillow opens a file, timm's transform of the model prepares it, batches are
  stacked, the model runs under ``inference_mode``;
- ``timm, loader``: the same model behind timm's ``create_loader``, whose processes decode while it computes;
- ``ours``: ``volo.Predictor.predict``, as ``volo predict`` does it.

All name the same classes, which is checked. A row gives the median of its rounds. Needs ``pip install 'volo[train]'``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from machine import machine
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data import ImageDataset, create_loader, create_transform, resolve_data_config
from torch import Tensor, nn

from volo import Predictor, create_model
from volo.data import find_images
from volo.models.weights.model_folder import save_model

#: From a list of files to the index of the class of each.
Namer = Callable[[Sequence[Path]], list[int]]


def plain_timm(model: nn.Module, transform: Callable[[Image.Image], Tensor], batch: int, paths: Sequence[Path]) -> list:
    named: list[int] = []
    for first in range(0, len(paths), batch):
        images = [transform(Image.open(path).convert("RGB")) for path in paths[first : first + batch]]
        with torch.inference_mode():
            named += model(torch.stack(images)).softmax(dim=-1).argmax(dim=-1).tolist()
    return named


def loaded_timm(model: nn.Module, settings: dict, batch: int, workers: int, paths: Sequence[Path]) -> list[int]:
    images = ImageDataset(str(paths[0].parent), reader=Files(paths))
    loader = create_loader(
        images,
        **{key: settings[key] for key in ("input_size", "interpolation", "mean", "std", "crop_pct")},
        batch_size=batch,
        num_workers=workers,
        use_prefetcher=False,
        device=torch.device("cpu"),
    )
    named: list[int] = []
    with torch.inference_mode():
        for pixels, _ in loader:
            named += model(pixels).softmax(dim=-1).argmax(dim=-1).tolist()
    return named


class Files:
    """The paths, as timm's ``ImageDataset`` asks a reader for them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple:
        return self.paths[index].open("rb"), 0


def ours(predictor: Predictor, batch: int, paths: Sequence[Path]) -> list[int]:
    return [each.indices[0] for each in predictor.predict(paths, top_k=1, batch_size=batch)]


def namers(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Namer]:
    """All who take part, with equal weights."""
    model = create_model(name).eval()
    theirs = timm.create_model(name)
    theirs.load_state_dict(model.state_dict())
    theirs.eval()
    settings = resolve_data_config(theirs.pretrained_cfg)
    preprocessing = {
        "size": settings["input_size"][1:],
        **{key: settings[key] for key in ("crop_pct", "interpolation", "mean", "std")},
    }
    classes = tuple(map(str, range(model.config.num_classes)))
    save_model(folder, model.config, model.state_dict(), class_names=classes, preprocessing=preprocessing)
    predictor = Predictor(folder, device="cpu")
    transform = create_transform(**settings)
    return {
        "timm": partial(plain_timm, theirs, transform, options.batch),
        f"timm, loader of {options.workers}": partial(loaded_timm, theirs, settings, options.batch, options.workers),
        "ours": partial(ours, predictor, options.batch),
    }


def run_interleaved(all_: dict[str, Namer], paths: Sequence[Path], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of each; the first round, in which all must name the same, is not counted."""
    named = {name: namer(paths) for name, namer in all_.items()}
    for name, classes in named.items():
        same = sum(a == b for a, b in zip(classes, named["timm"], strict=True))
        if same < 0.99 * len(paths):
            raise RuntimeError(f"{name} names only {same} of {len(paths)} images as timm does")
    seconds: dict[str, list[float]] = {name: [] for name in all_}
    for _ in range(rounds):
        for name, namer in all_.items():
            start = time.perf_counter()
            namer(paths)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def table_of(row: dict, facts: dict) -> Table:
    table = Table(
        title=f"{row['images']} images, batch {row['batch']}; " + ", ".join(f"{k} {v}" for k, v in facts.items())
    )
    for column in ("who", "images/s", "times timm"):
        table.add_column(column, justify="left" if column == "who" else "right")
    for name, rate in row["images_per_second"].items():
        table.add_row(name, f"{rate:.2f}", f"{rate / row['images_per_second']['timm']:.2f}×")
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="images, at any depth")
    parser.add_argument("--model", default="volo_d1_224", help="a name that timm knows, too")
    parser.add_argument("--images", type=int, default=64, help="how many of them")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1, help="processes of timm's loader")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    paths = find_images([options.folder])[: options.images]
    with TemporaryDirectory() as folder:
        seconds = run_interleaved(namers(options.model, Path(folder), options), paths, options.rounds)
    rates = {name: len(paths) / statistics.median(each) for name, each in seconds.items()}
    row = {"model": options.model, "images": len(paths), "batch": options.batch, "images_per_second": rates}
    facts = machine("timm", "pillow")
    Console().print(table_of(row, facts))
    if options.json:
        text = json.dumps({"machine": facts, **row, "seconds_of_every_round": seconds}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
