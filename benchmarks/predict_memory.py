"""Measure the largest memory of ``volo predict`` on a folder of large photos.

    python benchmarks/predict_memory.py                        # 1,000 photos of 48 megapixels
    python benchmarks/predict_memory.py --images 100 --plain

All photos are links to one JPEG, smooth with noise as a photo is. As phones save them, it lies sideways and has a color
profile, so it is rotated and its colors are converted, which needs two more copies of the pixels; ``--plain`` leaves
both out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine
from PIL import Image, ImageCms

#: Runs ``volo predict`` and prints the line with its largest resident memory. Linux counts it for this process alone,
#: unlike ``getrusage``, which keeps the memory of the process that started it.
_PREDICT = """
import sys
from pathlib import Path
from volo.cli import main
assert main(["predict", *sys.argv[1:]]) == 0
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(8000, 6000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--plain", action="store_true", help="upright photos in sRGB")
    parser.add_argument("--model", default="volo_tiny_32.cifar10")
    parser.add_argument("--output", type=Path, help="*.json: the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photos" / "0000.jpg"
        photo.parent.mkdir()
        save_photo(photo, *options.size, plain=options.plain)
        size = photo.stat().st_size
        for number in range(1, options.images):
            os.link(photo, photo.with_name(f"{number:04}.jpg"))
        command = [sys.executable, "-c", _PREDICT, options.model, str(photo.parent), "--output", f"{folder}/labels.csv"]
        begin = time.monotonic()
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.monotonic() - begin
    figures = {
        "images": options.images,
        "megapixels": options.size[0] * options.size[1] / 1e6,
        "megabytes": round(size / 1e6, 1),
        "seconds": round(seconds, 1),
        "peak_gigabytes": round(int(printed.split()[-2]) * 1024 / 1e9, 2),
        "machine": machine("torch", "pillow"),
    }
    print(json.dumps(figures, indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def save_photo(path: Path, width: int, height: int, *, plain: bool) -> None:
    """Write a JPEG of smooth areas and noise; if not ``plain``, it is to be rotated, and its colors are not sRGB."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    photo = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112] = 6
    # Another name than sRGB: colors are converted, to what they are already.
    other = profile.replace("sRGB".encode("utf-16-be"), "oRGB".encode("utf-16-be"))
    photo.save(path, quality=85, **({} if plain else {"exif": exif, "icc_profile": other}))


if __name__ == "__main__":
    main()
