"""Augmentation of an image together with its mask. Every draw comes from the generator that is handed in."""

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

#: Crops that are drawn before the last is taken, though one class fills it.
_TRIES = 10

#: Distortion of colors → its factors, or the shift of the hue as a share of the circle, evenly between the two; those
#: of SSD, arXiv:1512.02325, as torchvision has them.
_RECOLORING: Mapping[str, tuple[float, float]] = {
    "brightness": (0.875, 1.125),
    "contrast": (0.5, 1.5),
    "saturation": (0.5, 1.5),
    "hue": (-0.05, 0.05),
}


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentConfig:
    """What is usual in training on ADE20K and Cityscapes, in the order in which it is applied.

    Attributes:
        short_side: pixels, to which the shorter side of every image is brought first; None leaves images as they are.
        scale: what the sides of the image are multiplied by then, evenly between the two.
        max_share: the share of a crop's pixels that one class may fill; ten crops are drawn before that is borne. 1
            takes the first crop.
        hflip: probability of a horizontal flip.
        photometric: probability of changing the brightness, the contrast, the saturation and the hue, each of them.
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
    """Everything drawn for one image and its mask, in the order in which it is applied.

    Attributes:
        box: (left, top, right, bottom) of the crop, pixels of the image.
        size: (height, width) to which the crop is resized; what it lacks of the wanted size is padded.
        flip: left and right change places.
        recoloring: distortions of the image's colors, by name and strength.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: bool
    recoloring: tuple[tuple[str, float], ...]


class SegmentationTransform:
    """Random scale, crop with a limit for single classes, flip and distortion of colors; padded to one size.

    Args:
        config: what is drawn.
        size: (height, width) of the result, pixels.
        mean: of every channel, 0–1: what images are padded with, below and to the right; masks are with ``IGNORE``.
    """

    def __init__(self, config: SegmentationAugmentConfig, *, size: tuple[int, int], mean: Sequence[float]) -> None:
        self.config, self.size = config, size
        self.fill = [round(255 * value) for value in mean]

    def __call__(self, image: Image.Image, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An image of any size and its mask (H, W) uint8 to what :meth:`apply` gives."""
        return self.apply(image, mask, self.draw(mask, rng))

    def draw(self, mask: np.ndarray, rng: np.random.Generator) -> SegmentationAugmentation:
        """What to do to an image that has ``mask`` (H, W)."""
        height, width = mask.shape
        scale = rng.uniform(*self.config.scale)
        if self.config.short_side is not None:
            scale *= self.config.short_side / min(height, width)
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        size = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
        for _ in range(_TRIES):
            top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(scaled, size, strict=True))
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
        if rng.random() < 0.5:  # contrast comes second or last
            drawn.sort(key=lambda change: change[0] == "contrast")
        return tuple(drawn)

    def apply(
        self, image: Image.Image, mask: np.ndarray, drawn: SegmentationAugmentation
    ) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, channels) uint8 and (H, W) uint8, both of the wanted size."""
        picture = self._moved(torch.from_numpy(as_array(image)).permute(2, 0, 1), drawn, InterpolationMode.BILINEAR)
        # As a picture, since torchvision's masks take the pixel before the nearest one and so lie beside the image.
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
    """A box in a ``scaled`` image (height, width) as one of the image of ``size``, so that the crop comes first."""
    by = size[1] / scaled[1], size[0] / scaled[0]
    left, top, right, bottom = (round(at * by[i % 2]) for i, at in enumerate(box))
    left, top = min(left, size[1] - 1), min(top, size[0] - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _largest_share(mask: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> float:
    """The share of a crop's pixels, the ignored ones not counted, that are of the most frequent class; 1 of none."""
    left, top, right, bottom = box
    down, across = max(1, (bottom - top) // size[0]), max(1, (right - left) // size[1])  # as many as the result has
    counts = np.bincount(mask[top:bottom:down, left:right:across].reshape(-1), minlength=IGNORE + 1)[:IGNORE]
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0


def _recolored(picture: Tensor, changes: tuple[tuple[str, float], ...]) -> Tensor:
    """(channels, H, W) uint8 with changed colors; transparency, a fourth channel, stays as it is."""
    if not changes:
        return picture
    colors, alpha = picture[:3], picture[3:]
    for name, strength in changes:
        colors = getattr(TF, f"adjust_{name}")(colors, strength)
    return torch.cat([colors, alpha]) if len(alpha) else colors
