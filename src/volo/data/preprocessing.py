"""Conversion of a decoded image to the model's input, the same in evaluation, prediction and export."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from volo.data.color_modes import BACKGROUND
from volo.imagenet import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The preprocessing that a model was trained with.

    Attributes:
        size: (height, width) of the model's input, in pixels.
        crop_pct: share of the resized image's sides that the center crop keeps; above 1, the crop is padded with black.
        interpolation: Pillow's resampling filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        mean: of every channel, for values in 0–1. Its length is the number of channels: 1 gray, 3 RGB, 4 RGBA.
        std: standard deviation of every channel, for values in 0–1.
        background: a color that Pillow knows, for transparent pixels; not used with four channels.

    Raises:
        ValueError: A value is out of range.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    background: str = BACKGROUND

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, not {self.size!r}")
        if self.crop_pct <= 0:
            raise ValueError(f"crop_pct must be positive, not {self.crop_pct!r}")
        if not len(self.mean) == len(self.std) > 0 or min(self.std) <= 0:
            raise ValueError(
                f"mean and std must be one number for each channel, std positive; not {self.mean}, {self.std}"
            )
        allowed = [mode.value for mode in InterpolationMode]
        if self.interpolation not in allowed:
            raise ValueError(f"interpolation must be one of {', '.join(allowed)}, not {self.interpolation!r}")
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise ValueError(
                f"background must be a color such as white, gray or #808080, not {self.background!r}"
            ) from None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Create the preprocessing from JSON values; lists become tuples."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for gray images, 3 for RGB, 4 for RGBA. Other numbers are possible with arrays only."""
        return len(self.mean)

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize the image to cover ``size / crop_pct``, keep its aspect ratio, and crop ``size`` from the center."""
        height, width = (int(side / self.crop_pct) for side in self.size)
        # Integer arithmetic rounds down as the resize of torchvision and timm does, so that the scores published for
        # their pipelines are reproduced.
        if height * image.width >= width * image.height:
            covering = [height, max(width, height * image.width // image.height)]
        else:
            covering = [max(height, width * image.height // image.width), width]
        resized = TF.resize(image, covering, InterpolationMode(self.interpolation))
        return TF.center_crop(resized, list(self.size))

    def pixels(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """Crop an image for the model.

        Args:
            image: an image, or an array (H, W, channels) uint8 with any number of channels, whose planes are cropped
                one by one.

        Returns:
            (height, width, channels) uint8, 0–255.
        """
        if isinstance(image, np.ndarray):
            planes = [Image.fromarray(image[:, :, channel]) for channel in range(image.shape[2])]
            return np.concatenate([as_array(self.crop(plane)) for plane in planes], axis=2)
        return as_array(self.crop(image))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Convert pixels (B, channels, H, W) uint8, 0–255, to float32 of about zero mean and unit variance.

        The memory layout is kept.
        """
        # Mean and std get the size and layout of one image, because broadcasting (channels, 1, 1) over interleaved
        # channels takes twice as long.
        image = torch.zeros_like(pixels[:1], dtype=torch.float32)
        mean, std = (  # multiplied by 255 and rounded to float32 once, as timm's loader does, for identical results
            image + image.new_tensor([255 * value for value in values]).reshape(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return pixels.to(torch.float32, copy=True).sub_(mean).div_(std)


def as_array(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return an ``L``, ``RGB`` or ``RGBA`` image, or an array (H, W, channels) uint8, as (H, W, channels) uint8."""
    array = np.array(image)  # a copy, because Pillow's own buffer is read-only
    return array[:, :, None] if array.ndim == 2 else array
