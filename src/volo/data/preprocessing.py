"""From a decoded image to the model's input, the same in evaluation, prediction and export."""

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
    """What a model expects of an image.

    Attributes:
        size: (height, width) of the model's input, pixels.
        crop_pct: the share of the resized image's sides that the center crop keeps; above 1 it pads with black.
        interpolation: Pillow's resampling filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        mean: of every channel, of values in 0–1; one channel means gray images, three RGB and four RGBA.
        std: of every channel, likewise.
        background: a color as Pillow names them, laid behind transparent pixels unless there are four channels.
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
        """Build from JSON values, whose lists become tuples."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def channels(self) -> int:
        """1 for gray images, 3 for RGB, 4 for RGBA; others come from arrays alone."""
        return len(self.mean)

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize, aspect kept, to cover ``size / crop_pct``, and cut ``size`` out of the center."""
        height, width = (int(side / self.crop_pct) for side in self.size)
        # In whole numbers and rounded down like torchvision's and timm's resize, so that scores published for
        # their pipelines hold for the same files.
        if height * image.width >= width * image.height:
            covering = [height, max(width, height * image.width // image.height)]
        else:
            covering = [max(height, width * image.height // image.width), width]
        resized = TF.resize(image, covering, InterpolationMode(self.interpolation))
        return TF.center_crop(resized, list(self.size))

    def pixels(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """The cropped image as (H, W, channels) uint8, 0–255; an array (H, W, any channels) uint8 plane by plane."""
        if isinstance(image, np.ndarray):
            planes = [Image.fromarray(image[:, :, channel]) for channel in range(image.shape[2])]
            return np.concatenate([as_array(self.crop(plane)) for plane in planes], axis=2)
        return as_array(self.crop(image))

    def normalize(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) uint8, 0–255, to float32 of about zero mean and unit variance, layout kept."""
        # Of an image's size and layout: broadcasting over three interleaved channels would take twice as long.
        image = torch.zeros_like(pixels[:1], dtype=torch.float32)
        mean, std = (  # 255 times each, rounded to float32 once, as in timm's loader: the same bits come out
            image + image.new_tensor([255 * value for value in values]).reshape(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return pixels.to(torch.float32, copy=True).sub_(mean).div_(std)


def as_array(image: Image.Image | np.ndarray) -> np.ndarray:
    """An ``L``, ``RGB`` or ``RGBA`` image, or an array (H, W, channels) uint8, as (H, W, channels) uint8."""
    array = np.array(image)  # a copy, since what Pillow shares is read-only
    return array[:, :, None] if array.ndim == 2 else array
