"""Measure the overhead and the memory of sliding windows, beyond the model's work on them.

    python benchmarks/sliding_window.py                       # volo_d1, UPerNet, windows of 512², two images in turn
    python benchmarks/sliding_window.py --memory              # peak memory of 100 megapixels, by the number of classes

Time: the same windows are computed by the model alone, already cut out and normalized, and by :class:`volo.Segmenter`
from the decoded image to its mask; the two run in interleaved rounds, and the overhead is the median of the rounds'
differences divided by the median of the model's time. Memory: the peak of a process for an image of 12,500 × 8,000
pixels beyond its memory after one window, with a model that costs nothing; the decoded image and its mask are not
counted.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import machine
from PIL import Image
from rich.console import Console
from rich.table import Table

from volo import Segmenter, create_segmenter, optimize_for_inference
from volo.data import Preprocessing, default_colors
from volo.inference.sliding import Sliding, sliding_scores, window_starts
from volo.models import save_segmenter


def segmenter_of(options: argparse.Namespace) -> Segmenter:
    """Build an untrained model: its answers are not measured."""
    model = create_segmenter(options.model, num_classes=options.classes, decoder=options.decoder)
    size = (options.window, options.window)
    with TemporaryDirectory() as folder:
        save_segmenter(
            Path(folder),
            model.config,
            model.state_dict(),
            class_names=tuple(map(str, range(options.classes))),
            class_colors=default_colors(options.classes),
            ignore_index=255,
            preprocessing=asdict(Preprocessing(size=size)),
            short_side=None,
        )
        return Segmenter(folder, device="cpu", stride=options.stride, batch_size=options.batch)


def time_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def overhead(segmenter: Segmenter, height: int, width: int, rounds: int) -> dict[str, float]:
    """Seconds of the windows alone and of the whole, medians, and what the whole takes beyond them."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, (high, wide) = Image.fromarray(pixels), segmenter.sliding.window
    high, wide = min(high, height), min(wide, width)
    lefts = window_starts(width, wide, segmenter.sliding.stride[1])
    strips = [
        torch.from_numpy(np.stack([pixels[top : top + high, left : left + wide] for left in lefts]))
        for top in window_starts(height, high, segmenter.sliding.stride[0])
    ]
    assert segmenter.model is not None
    model = optimize_for_inference(segmenter.model)  # as the segmenter runs it
    ready = [segmenter.preprocessing.normalize(strip.permute(0, 3, 1, 2)) for strip in strips]

    @torch.no_grad()
    def alone() -> None:
        for windows in ready:
            for batch in windows.split(segmenter.sliding.batch_size):
                model(batch)

    times = [(time_of(alone), time_of(lambda: segmenter(image))) for _ in range(rounds + 1)][1:]
    base = statistics.median(first for first, _ in times)
    return {
        "height": height,
        "width": width,
        "windows": len(lefts) * len(strips),
        "windows_alone_s": base,
        "whole_s": statistics.median(second for _, second in times),
        "overhead": statistics.median(second - first for first, second in times) / base,
    }


def memory_of(classes: int) -> int:
    """Bytes that 100 megapixels take in this process beyond one window, the image and its mask."""
    image, mask = Image.new("RGB", (12_500, 8_000), (90, 120, 30)), np.empty((8_000, 12_500), np.uint8)
    mask[:] = 0  # so that its memory is there
    weights = torch.linspace(0, 1, classes)[:, None, None]
    sliding = Sliding(window=(512, 512), stride=(341, 341))

    def forward(windows: torch.Tensor) -> torch.Tensor:
        return windows.float().mean(1, keepdim=True) * weights

    for _ in sliding_scores(image.crop((0, 0, 512, 512)), forward, sliding, classes=classes):
        pass
    before, row = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for block in sliding_scores(image, forward, sliding, classes=classes):
        mask[row : row + block.shape[1]] = block.argmax(dim=0).numpy()
        row += block.shape[1]
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="volo_d1", help="backbone")
    parser.add_argument("--decoder", default="upernet")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--window", type=int, default=512, help="pixels, the side")
    parser.add_argument("--stride", type=int, help="pixels; default: two thirds of the window")
    parser.add_argument("--batch", type=int, default=1, help="windows at a time")
    parser.add_argument("--sizes", nargs="+", default=["768x768", "1024x2048"], help="images, HEIGHTxWIDTH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure memory in the place of time")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)  # one measurement, in a process of its own
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number")
    return parser.parse_args()


def timed(options: argparse.Namespace) -> tuple[Table, list[dict[str, float]]]:
    segmenter = segmenter_of(options)
    rows = [overhead(segmenter, *map(int, size.split("x")), rounds=options.rounds) for size in options.sizes]
    table = Table("image", "windows", "the model alone, s", "the whole, s", "overhead", title=options.model)
    for row in rows:
        table.add_row(
            f"{row['height']}×{row['width']}",
            f"{row['windows']}",
            f"{row['windows_alone_s']:.2f}",
            f"{row['whole_s']:.2f}",
            f"{row['overhead']:.1%}",
        )
    return table, rows


def weighed() -> tuple[Table, list[dict[str, float]]]:
    rows = []
    for classes in (2, 19, 150):
        command = [sys.executable, __file__, "--memory-of", str(classes)]
        took = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"classes": classes, "peak": took, "strip": classes * 512 * 12_500 * 4})
    table = Table("classes", "peak, GB", "a strip's logits, GB", "all logits, GB", title="12,500 × 8,000 pixels")
    for row in rows:
        whole = row["strip"] * 8_000 / 512
        table.add_row(f"{row['classes']}", *(f"{size / 1e9:.2f}" for size in (row["peak"], row["strip"], whole)))
    return table, rows


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(memory_of(options.memory_of))
        return
    table, rows = weighed() if options.memory else timed(options)
    facts = machine("segmentation-models-pytorch")
    Console().print(table, facts["cpu"])
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
