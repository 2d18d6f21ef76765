"""Small images with masks, and a small segmentation model, for tests that use both."""

from dataclasses import asdict

import numpy as np
import torch
from PIL import Image

from volo.data import Preprocessing
from volo.models import create_segmenter, save_segmenter

NAMES = ("sky", "wall", "grass")
COLOURS = ((120, 180, 250), (160, 90, 60), (60, 160, 60))


def make_pairs(folder, sizes=((40, 56), (40, 56), (64, 48)), seed=0):
    """A ``val`` part of images of three bands of colour, and their masks, with a frame of ignored pixels."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / "val" / name).mkdir(parents=True)
    (folder / "classes.txt").write_text(
        "".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(NAMES, COLOURS, strict=True))
    )
    for number, (height, width) in enumerate(sizes):
        mask = (np.arange(height)[:, None] * 3 // height).astype(np.uint8).repeat(width, axis=1)
        noise = rng.integers(-30, 30, (height, width, 3))
        pixels = (np.array(COLOURS)[mask] + noise).clip(0, 255).astype(np.uint8)
        mask[0], mask[:, -1] = 255, 255
        Image.fromarray(pixels).save(folder / f"val/images/{number}.png")
        Image.fromarray(mask).save(folder / f"val/masks/{number}.png")
    return folder


def save_untrained(folder, *, seed=0, channels=3, names=NAMES, short_side=None, size=(32, 48)):
    """A folder with an untrained model, whose answers differ from place to place."""
    torch.manual_seed(seed)
    model = create_segmenter(
        "volo_micro_32",
        num_classes=len(names),
        decoder="fpn",
        decoder_channels=16,
        img_size=size,
        in_chans=channels,
        dims=(16, 32),
        depths=(1, 1, 1, 1),
        heads=(2, 2),
    )
    with torch.no_grad():
        model.head[-1].weight *= 30
    folder.mkdir()
    half = (0.5,) * channels
    save_segmenter(
        folder,
        model.config,
        model.state_dict(),
        class_names=names,
        class_colours=tuple(COLOURS[: len(names)]),
        ignore_index=255,
        preprocessing=asdict(Preprocessing(size=size, mean=half, std=half, interpolation="bilinear")),
        short_side=short_side,
    )
    return folder
