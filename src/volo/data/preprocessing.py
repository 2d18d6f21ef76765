"""Conversion of a decoded image to the model's input, the same in evaluation, prediction and export."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from volo.data.color_modes import BACKGROUND
from volo.imagenet import IMAGENET_MEAN, IMAGENET_STD
from volo.limits import check_preprocessing, short_repr
from volo.messages import nearest

#: Most pixels that an image may have after it is resized as a whole. Of a longer image only the center is resized:
#: 60,000×1 pixels would become 13,440,000×224.
_LARGEST_RESIZED = 1 << 24


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
        check_preprocessing(vars(self))
        allowed = [mode.value for mode in InterpolationMode]
        if self.interpolation not in allowed:
            raise ValueError(f"interpolation must be one of {', '.join(allowed)}, not {short_repr(self.interpolation)}")
        try:
            ImageColor.getrgb(self.background)
        except (ValueError, TypeError, AttributeError):  # the last two: it is no text
            raise ValueError(
                f"background must be a color such as white, gray or #808080, not {short_repr(self.background)}"
            ) from None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Create the preprocessing from JSON values; lists become tuples.

        Raises:
            ValueError: A field is unknown or missing, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"unknown setting {key!r}{nearest(key, known)}")
        if "size" not in values:
            raise ValueError("size is missing")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for gray images, 3 for RGB, 4 for RGBA. Other numbers are possible with arrays only."""
        return len(self.mean)

    @property
    def resampling(self) -> Image.Resampling:
        """Pillow's filter for ``interpolation``."""
        return Image.Resampling[self.interpolation.removesuffix("-exact").upper()]

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize the image to cover ``size / crop_pct``, keep its aspect ratio, and crop ``size`` from the center."""
        height, width = (int(side / self.crop_pct) for side in self.size)
        # Integer arithmetic rounds down as the resize of torchvision and timm does, so that the scores published for
        # their pipelines are reproduced.
        if height * image.width >= width * image.height:
            covering = [height, max(width, height * image.width // image.height)]
        else:
            covering = [max(height, width * image.height // image.width), width]
        if covering[0] * covering[1] <= max(_LARGEST_RESIZED, 16 * height * width):
            image = TF.resize(image, covering, InterpolationMode(self.interpolation))
        else:
            image = self._resize_center(image, covering)
        return TF.center_crop(image, list(self.size))

    def _resize_center(self, image: Image.Image, covering: list[int]) -> Image.Image:
        """Resize only the part of an image that the center crop keeps.

        Pillow takes the corners of the part as float32, so the pixels equal those of the crop of the whole resized
        image up to rounding.

        Args:
            image: a very long image.
            covering: the (height, width) to which the whole image would be resized.
        """
        height, width = (min(side, crop) for side, crop in zip(covering, self.size, strict=True))
        top, left = round((covering[0] - height) / 2), round((covering[1] - width) / 2)
        down, across = image.height / covering[0], image.width / covering[1]
        bottom, right = min(image.height, (top + height) * down), min(image.width, (left + width) * across)
        return image.resize((width, height), self.resampling, (left * across, top * down, right, bottom))

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
