"""Augmentation of one training image. Every random draw comes from the generator that the caller passes."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from volo.data.classification.rand_augment import Operation, RandAugment, random_filter
from volo.data.preprocessing import Preprocessing, as_array


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Settings of the paper's augmentations, in the order in which they are applied.

    Attributes:
        hflip: probability of a horizontal flip.
        rand_augment: mean level of RandAugment, 0–10; 0 switches RandAugment off.
        rand_augment_std: standard deviation of that level.
        rand_augment_count: number of operations drawn for an image; each is applied with probability 0.5.
        crop_scale: share of the image's area that the random resized crop keeps, (least, most). None takes the
            paper's (0.08, 1) if the model's input is at least 128 pixels high and wide, else (0.5, 1), since a smaller
            crop of a small image shows nothing.
        crop_ratio: width / height of the crop, (least, most).
        erasing: probability of replacing a random box by noise.
    """

    hflip: float = 0.5
    rand_augment: float = 9.0
    rand_augment_std: float = 0.5
    rand_augment_count: int = 2
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    erasing: float = 0.25

    def __post_init__(self) -> None:
        for name in ("hflip", "erasing"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"augment.{name} is a probability, 0–1, not {getattr(self, name)}")
        if not 0.0 <= self.rand_augment <= 10.0:
            raise ValueError(f"augment.rand_augment is a level, 0–10, not {self.rand_augment}")
        if self.rand_augment_std < 0 or self.rand_augment_count < 0:
            raise ValueError(
                "augment.rand_augment_std and augment.rand_augment_count must be at least 0, "
                f"not {self.rand_augment_std} and {self.rand_augment_count}"
            )
        if self.crop_scale is not None and not 0.0 < self.crop_scale[0] <= self.crop_scale[1] <= 1.0:
            raise ValueError(f"augment.crop_scale must be (least, most), 0 < least ≤ most ≤ 1, not {self.crop_scale}")
        if not 0.0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"augment.crop_ratio must be (least, most), 0 < least ≤ most, not {self.crop_ratio}")

    def resolved_crop_scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return ``crop_scale``, or its default for a model's input of ``size`` (height, width) pixels."""
        if self.crop_scale is not None:
            return self.crop_scale
        return (0.08, 1.0) if min(size) >= 128 else (0.5, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """All random draws for one image, in the order in which they are applied.

    Attributes:
        size: (width, height) of the image, pixels.
        flip: whether left and right are swapped.
        operations: operations of RandAugment, none of which changes the size.
        box: (left, top, right, bottom) of the crop, pixels of the image after flip and operations.
        resample: the filter that resizes the crop.
    """

    size: tuple[int, int]
    flip: bool
    operations: tuple[Operation, ...]
    box: tuple[int, int, int, int]
    resample: Image.Resampling

    def shrink(self, size: tuple[int, int]) -> float:
        """Return the largest factor by which the image may shrink while its crop keeps twice ``size`` (height, width).

        The factor is 1 if the crop has less than that already.
        """
        left, top, right, bottom = self.box
        return max(1.0, min((right - left) / size[1], (bottom - top) / size[0]) / 2)

    def on(self, size: tuple[int, int]) -> "Augmentation":
        """Return the same augmentation for the image at another ``size`` (width, height), its box in whole pixels."""
        left, top, right, bottom = (round(at * size[i % 2] / self.size[i % 2]) for i, at in enumerate(self.box))
        return replace(self, size=size, box=(left, top, max(right, left + 1), max(bottom, top + 1)))


class TrainTransform:
    """Flip, RandAugment and random resized crop of one image; erasing is applied later, to the normalized batch."""

    def __init__(self, config: AugmentConfig, preprocessing: Preprocessing) -> None:
        self.config = config
        self.size = preprocessing.size
        self.scale = config.resolved_crop_scale(preprocessing.size)
        self.rand_augment = RandAugment(
            magnitude=config.rand_augment,
            magnitude_std=config.rand_augment_std,
            count=config.rand_augment_count if config.rand_augment > 0 else 0,
            probability=0.5,
            fill=tuple(round(255 * value) for value in preprocessing.mean),
        )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """Turn an ``L``, ``RGB`` or ``RGBA`` image of any size into (H, W, channels) uint8 of the model's size."""
        return self.apply(image, self.draw(image.size, rng))

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Augmentation:
        """Draw the augmentation of an image of ``size`` (width, height) pixels."""
        flip = bool(rng.random() < self.config.hflip)
        operations = self.rand_augment.draw(rng) if self.rand_augment.count else ()
        left, top, width, height = random_crop_box(*size, self.scale, self.config.crop_ratio, rng)
        return Augmentation(size, flip, operations, (left, top, left + width, top + height), random_filter(rng))

    def apply(self, image: Image.Image, drawn: Augmentation) -> np.ndarray:
        """Augment an ``L``, ``RGB`` or ``RGBA`` image: (H, W, channels) uint8 of the model's size.

        Args:
            image: an image of ``drawn.size``, or a smaller version of it.
            drawn: the augmentation.
        """
        if image.size != drawn.size:
            drawn = drawn.on(image.size)
        if drawn.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop = self.rand_augment.apply(image, drawn.operations, drawn.box)
        return resized(crop, self.size, drawn.resample)


def resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """Resize an image to (H, W, channels) uint8 of ``size`` (height, width), antialiased; bilinear or bicubic.

    PyTorch resizes to large sizes: it takes a third of Pillow's time and rounds as precisely. Pillow resizes to small
    sizes, since it has less overhead, and transparent images, since it weighs colors by their opacity.
    """
    if min(size) < 96 or image.mode == "RGBA":
        return as_array(image.resize((size[1], size[0]), resample))
    batch = torch.from_numpy(as_array(image)).unsqueeze(0).permute(0, 3, 1, 2)
    result = F.interpolate(batch, size, mode=resample.name.lower(), antialias=True)
    return result[0].permute(1, 2, 0).contiguous().numpy()


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw (left, top, width, height) of a crop: area uniform in ``scale``, aspect log-uniform in ``ratio``.

    After ten draws that do not fit into the image, take the largest centered box whose aspect is allowed.

    Source: Going Deeper with Convolutions, arXiv:1409.4842, section 6.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1)), w, h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    return (width - w) // 2, (height - h) // 2, w, h
