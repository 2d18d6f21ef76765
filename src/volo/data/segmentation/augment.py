"""Augmentation of an image together with its mask. All random draws use the generator that the caller passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from volo.data.preprocessing import as_array
from volo.data.segmentation.classes import IGNORE

#: Limit of crops that are drawn. The last one is used even if one class fills it.
_TRIES = 10

#: Change of colors → the range from which its strength is drawn uniformly: a factor, or for the hue a shift as a share
#: of the color circle. Source: SSD, arXiv:1512.02325, with torchvision's values.
_RECOLORING: Mapping[str, tuple[float, float]] = {
    "brightness": (0.875, 1.125),
    "contrast": (0.5, 1.5),
    "saturation": (0.5, 1.5),
    "hue": (-0.05, 0.05),
}


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentConfig:
    """Settings of the augmentation that is usual for ADE20K and Cityscapes, in the order of its steps.

    Attributes:
        short_side: length in pixels to which the shorter side of every image is resized first; None keeps the size.
        scale: range of the factor, drawn uniformly, by which the sides of the image are then multiplied.
        max_share: limit of the share of a crop's pixels that have one class. Up to ten crops are drawn to meet it; 1
            takes the first crop.
        hflip: probability of a horizontal flip.
        photometric: probability of each of four changes: of brightness, contrast, saturation and hue.
    """

    short_side: int | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    max_share: float = 0.75
    hflip: float = 0.5
    photometric: float = 0.5

    def __post_init__(self) -> None:
        for name in ("hflip", "photometric"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"segmentation.augment.{name} is a probability, 0–1, not {getattr(self, name)}")
        if not 0.0 < self.max_share <= 1.0:
            raise ValueError(f"segmentation.augment.max_share is a share above 0 and up to 1, not {self.max_share}")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"segmentation.augment.scale must be positive and rise, not {self.scale}")
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"segmentation.augment.short_side must be at least 1, not {self.short_side}")


@dataclass(frozen=True)
class SegmentationAugmentation:
    """The random choices for one image and its mask, in the order in which they are applied.

    Attributes:
        box: (left, top, right, bottom) of the crop, in pixels of the image.
        size: (height, width) to which the crop is resized. A crop smaller than the result is padded.
        flip: whether left and right are swapped.
        recoloring: changes of the image's colors: (name, strength) each.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: bool
    recoloring: tuple[tuple[str, float], ...]


class SegmentationTransform:
    """Transform with a random scale, a random crop, a flip and changes of colors, padded to a fixed size.

    Args:
        config: settings of the random choices.
        size: (height, width) of the result, in pixels.
        mean: of every channel, 0–1. Images are padded with it, below and to the right; masks with ``IGNORE``.
    """

    def __init__(self, config: SegmentationAugmentConfig, *, size: tuple[int, int], mean: Sequence[float]) -> None:
        self.config, self.size = config, size
        self.fill = [round(255 * value) for value in mean]

    def __call__(self, image: Image.Image, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Augment an image of any size and its mask (H, W) uint8; see :meth:`apply` for the result."""
        return self.apply(image, mask, self.draw(mask, rng))

    def draw(self, mask: np.ndarray, rng: np.random.Generator) -> SegmentationAugmentation:
        """Draw the augmentation of an image with this mask (H, W) uint8."""
        height, width = mask.shape
        scale = rng.uniform(*self.config.scale)
        if self.config.short_side is not None:
            scale *= self.config.short_side / min(height, width)
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        size = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
        for _ in range(_TRIES):
            top, left = (int(rng.integers(0, side - crop + 1)) for side, crop in zip(scaled, size, strict=True))
            box = _whole_pixels((left, top, left + size[1], top + size[0]), scaled, (height, width))
            if self.config.max_share >= 1.0 or _largest_share(mask, box, size) < self.config.max_share:
                break
        return SegmentationAugmentation(box, size, bool(rng.random() < self.config.hflip), self._recoloring(rng))

    def _recoloring(self, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
        drawn = [
            (name, float(rng.uniform(*between)))
            for name, between in _RECOLORING.items()
            if rng.random() < self.config.photometric
        ]
        if rng.random() < 0.5:  # contrast is changed second or last, as in SSD
            drawn.sort(key=lambda change: change[0] == "contrast")
        return tuple(drawn)

    def apply(
        self, image: Image.Image, mask: np.ndarray, drawn: SegmentationAugmentation
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply the drawn augmentation.

        Args:
            image: of any size.
            mask: (H, W) uint8, of the image's size.
            drawn: the random choices.

        Returns:
            The image (height, width, channels) uint8 and the mask (height, width) uint8, both of ``size``.
        """
        picture = self._moved(torch.from_numpy(as_array(image)).permute(2, 0, 1), drawn, InterpolationMode.BILINEAR)
        # The mask is resized as an image with nearest-exact. For masks torchvision uses nearest, which always rounds
        # down and so shifts the mask against the image.
        classes = self._moved(torch.from_numpy(mask)[None], drawn, InterpolationMode.NEAREST_EXACT)
        pixels = self._padded(_recolored(picture, drawn.recoloring), self.fill)
        return pixels.permute(1, 2, 0).contiguous().numpy(), self._padded(classes, [IGNORE])[0].contiguous().numpy()

    def _moved(self, planes: Tensor, drawn: SegmentationAugmentation, interpolation: InterpolationMode) -> Tensor:
        left, top, right, bottom = drawn.box
        crop = TF.resized_crop(planes, top, left, bottom - top, right - left, list(drawn.size), interpolation)
        return TF.horizontal_flip(crop) if drawn.flip else crop

    def _padded(self, planes: Tensor, fill: list[int]) -> Tensor:
        missing = self.size[0] - planes.shape[1], self.size[1] - planes.shape[2]
        return TF.pad(planes, [0, 0, missing[1], missing[0]], fill=fill) if any(missing) else planes


def _whole_pixels(
    box: tuple[int, int, int, int], scaled: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Convert a box in the scaled image to whole pixels of the original image, so that only the crop is resized.

    Args:
        box: (left, top, right, bottom) in the scaled image.
        scaled: (height, width) of the scaled image.
        size: (height, width) of the original image.
    """
    factors = size[1] / scaled[1], size[0] / scaled[0]
    left, top, right, bottom = (round(edge * factors[i % 2]) for i, edge in enumerate(box))
    left, top = min(left, size[1] - 1), min(top, size[0] - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _largest_share(mask: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> float:
    """Return the share of a crop's pixels that have its most frequent class; ignored pixels do not count.

    The mask is sampled about as densely as the resized crop of ``size``. A crop of ignored pixels has the share 1.
    """
    left, top, right, bottom = box
    step_y, step_x = max(1, (bottom - top) // size[0]), max(1, (right - left) // size[1])
    counts = np.bincount(mask[top:bottom:step_y, left:right:step_x].reshape(-1), minlength=IGNORE + 1)[:IGNORE]
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0


def _recolored(picture: Tensor, changes: tuple[tuple[str, float], ...]) -> Tensor:
    """Change the colors of a picture (channels, H, W) uint8; the fourth channel, transparency, stays the same."""
    if not changes:
        return picture
    colors, alpha = picture[:3], picture[3:]
    for name, strength in changes:
        colors = getattr(TF, f"adjust_{name}")(colors, strength)
    return torch.cat([colors, alpha]) if len(alpha) else colors
