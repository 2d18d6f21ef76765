"""Augmentation of one training image. Every draw comes from the generator that is handed in."""

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
    """The paper's augmentations, in the order in which they are applied.

    Attributes:
        hflip: probability of a horizontal flip.
        rand_augment: mean level of RandAugment, 0–10; 0 leaves it out.
        rand_augment_std: standard deviation of that level.
        rand_augment_count: operations drawn for an image, each applied with probability one half.
        crop_scale: share of the image's area that the random resized crop keeps, (least, most). None takes
            the paper's (0.08, 1) for images of at least 128 pixels and (0.5, 1) for smaller ones, of which a
            smaller crop leaves nothing to see.
        crop_ratio: width by height of the crop, (least, most).
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
            raise ValueError(f"augment.crop_scale must rise within 0–1, not {self.crop_scale}")
        if not 0.0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"augment.crop_ratio must be positive and rise, not {self.crop_ratio}")

    def resolved_crop_scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """``crop_scale``, or the default for images of ``size`` pixels."""
        if self.crop_scale is not None:
            return self.crop_scale
        return (0.08, 1.0) if min(size) >= 128 else (0.5, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """Everything drawn for one image, in the order in which it is applied.

    Attributes:
        size: (width, height) of the image, pixels.
        flip: left and right change places.
        operations: of RandAugment; they leave the size as it is.
        box: (left, top, right, bottom) of the crop, pixels of the flipped and changed image.
        resample: the filter that resizes the crop.
    """

    size: tuple[int, int]
    flip: bool
    operations: tuple[Operation, ...]
    box: tuple[int, int, int, int]
    resample: Image.Resampling

    def shrink(self, size: tuple[int, int]) -> float:
        """By how much the sides of the image may shrink, so that the crop keeps twice ``size`` (height, width)."""
        left, top, right, bottom = self.box
        return max(1.0, min((right - left) / size[1], (bottom - top) / size[0]) / 2)

    def on(self, size: tuple[int, int]) -> "Augmentation":
        """The same for the image at another ``size`` (width, height): its box there, in whole pixels."""
        left, top, right, bottom = (round(at * size[i % 2] / self.size[i % 2]) for i, at in enumerate(self.box))
        return replace(self, size=size, box=(left, top, max(right, left + 1), max(bottom, top + 1)))


class TrainTransform:
    """Flip, RandAugment and random resized crop of one image; erasing follows on the normalized batch."""

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
        """An ``L``, ``RGB`` or ``RGBA`` image of any size to (H, W, channels) uint8 of the model's size."""
        return self.apply(image, self.draw(image.size, rng))

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Augmentation:
        """What to do to an image of ``size`` (width, height) pixels."""
        flip = bool(rng.random() < self.config.hflip)
        operations = self.rand_augment.draw(rng) if self.rand_augment.count else ()
        left, top, width, height = random_crop_box(*size, self.scale, self.config.crop_ratio, rng)
        return Augmentation(size, flip, operations, (left, top, left + width, top + height), random_filter(rng))

    def apply(self, image: Image.Image, drawn: Augmentation) -> np.ndarray:
        """(H, W, channels) uint8 of the model's size from an ``L``, ``RGB`` or ``RGBA`` image.

        The image has ``drawn.size``, or is a smaller version of the one that has.
        """
        if image.size != drawn.size:
            drawn = drawn.on(image.size)
        if drawn.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop = self.rand_augment.apply(image, drawn.operations, drawn.box)
        return resized(crop, self.size, drawn.resample)


def resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """An image as (H, W, channels) uint8 of ``size`` (height, width), antialiased; bilinear or bicubic.

    Large ones by PyTorch, which takes a third of Pillow's time and rounds as well; small ones by Pillow, which has less
    to set up, and transparent ones, since it weighs colors by their opacity.
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

    Ten tries; then the largest centered box whose aspect is allowed.

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
