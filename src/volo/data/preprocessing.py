"""From a decoded image to the model's input, the same in evaluation, prediction and export."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a model expects of an image.

    Attributes:
        size: (height, width) of the model's input, pixels.
        crop_pct: the share of the resized image's sides that the centre crop keeps; above 1 it pads with black.
        interpolation: Pillow's resampling filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        mean: of every channel, of values in 0–1; one channel means grey images.
        std: of every channel, likewise.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, not {self.size!r}")
        if self.crop_pct <= 0:
            raise ValueError(f"crop_pct must be positive, not {self.crop_pct!r}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or min(self.std) <= 0:
            raise ValueError(f"mean and std must be 1 or 3 numbers each, std positive; not {self.mean}, {self.std}")
        allowed = [mode.value for mode in InterpolationMode]
        if self.interpolation not in allowed:
            raise ValueError(f"interpolation must be one of {', '.join(allowed)}, not {self.interpolation!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Build from JSON values, whose lists become tuples."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return len(self.mean)

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize, aspect kept, to cover ``size / crop_pct``, and cut ``size`` out of the centre."""
        height, width = (int(side / self.crop_pct) for side in self.size)
        # In whole numbers and rounded down like torchvision's and timm's resize, so that scores published for
        # their pipelines hold for the same files.
        if height * image.width >= width * image.height:
            covering = [height, max(width, height * image.width // image.height)]
        else:
            covering = [max(height, width * image.height // image.width), width]
        resized = TF.resize(image, covering, InterpolationMode(self.interpolation))
        return TF.center_crop(resized, list(self.size))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The cropped image as (H, W, channels) uint8, 0–255."""
        return as_array(self.crop(image))

    def normalize(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) uint8, 0–255, to float32 of about zero mean and unit variance, layout kept."""
        mean, std = (  # rounded to float32 once, as in timm's loader: the same bits come out
            torch.tensor([255 * value for value in values], dtype=torch.float32, device=pixels.device)
            for values in (self.mean, self.std)
        )
        return (pixels.float() - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)


def as_array(image: Image.Image) -> np.ndarray:
    """An ``L`` or ``RGB`` image as (H, W, channels) uint8."""
    array = np.array(image)  # a copy, since what Pillow shares is read-only
    return array[:, :, None] if array.ndim == 2 else array
