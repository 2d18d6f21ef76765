"""A small segmentation model for the scenes, untrained."""

from dataclasses import asdict

import torch
from scenes import COLORS, NAMES

from volo.data import Preprocessing
from volo.models import create_segmenter, save_segmenter


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
        class_colors=tuple(COLORS[: len(names)]),
        ignore_index=255,
        preprocessing=asdict(Preprocessing(size=size, mean=half, std=half, interpolation="bilinear")),
        short_side=short_side,
    )
    return folder
