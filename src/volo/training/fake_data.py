"""Generated images, which replace a data set in dry runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from volo.data import MaskClasses, MaskedImages
from volo.data.images import Shrink


@dataclass(frozen=True)
class DataSize:
    """The size of a data set: training and validation images, classes, width and height of a typical image."""

    train: int
    val: int
    classes: int
    pixels: tuple[int, int]


#: Name → size, of the data sets that recipes name; the empty name is for a run without a named folder.
DATA_SIZES = {
    "imagenet": DataSize(1_281_167, 50_000, 1000, (500, 375)),
    "cifar10": DataSize(50_000, 10_000, 10, (32, 32)),
    "cifar100": DataSize(50_000, 10_000, 100, (32, 32)),
    "cityscapes": DataSize(2_975, 500, 19, (2048, 1024)),
    "ade20k": DataSize(20_210, 2_000, 150, (683, 512)),
    "camvid": DataSize(367, 101, 11, (480, 360)),
    "": DataSize(1_000, 100, 10, (500, 375)),
}


class GeneratedImages:
    """Images of noise, each a function of its index; their classes repeat in order."""

    channels = 3

    def __init__(self, size: DataSize, length: int) -> None:
        self.size = size
        self.labels: Sequence[int] = [index % size.classes for index in range(length)]
        self.class_names = tuple(f"class {index}" for index in range(size.classes))

    def name(self, index: int) -> str:
        return f"generated #{index}"

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return Image.fromarray(_noise(self.size, index))


def make_masked_images(size: DataSize, folder: Path) -> tuple[MaskedImages, MaskedImages]:
    """Write one image of noise and a mask of blocks into ``folder``, and return sets that repeat them.

    Returns:
        Training and validation images, as many as ``size`` says.
    """
    width, height = size.pixels
    image, mask = folder / "generated.jpg", folder / "generated.png"
    Image.fromarray(_noise(size, 0)).save(image)
    blocks = np.add.outer(np.arange(height) // 32, np.arange(width) // 32) % size.classes
    Image.fromarray(blocks.astype(np.uint8)).save(mask)
    classes = MaskClasses.named([f"class {index}" for index in range(size.classes)])
    train, val = (MaskedImages([image] * count, [mask] * count, classes) for count in (size.train, size.val))
    return train, val


def _noise(size: DataSize, seed: int) -> np.ndarray:
    width, height = size.pixels
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
