"""RandAugment whose draws are explicit: an operation and its argument are chosen first, then applied.

The operations are timm's; the choice is ours, so that every draw comes from the sample's own generator.
Policy ``rand-m9-mstd0.5-inc1`` in timm's notation: two operations a picture, each with probability one half.

Source: RandAugment, arXiv:1909.13719; the increasing set of magnitudes is timm's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Levels run from 0 to 10; the argument of an operation is its range at level / 10.
_LEVELS = 10.0


def _either_sign(range_: float) -> Callable[[float, np.random.Generator], float]:
    return lambda share, rng: range_ * share * (-1.0 if rng.random() < 0.5 else 1.0)


def _enhance(share: float, rng: np.random.Generator) -> float:
    return max(0.1, 1.0 + _either_sign(0.9)(share, rng))


def _nothing(share: float, rng: np.random.Generator) -> None:
    return None


Argument = Callable[[float, np.random.Generator], float | None]

#: timm's name of the operation → (its argument from level / 10, whether it moves pixels).
OPERATIONS: dict[str, tuple[Argument, bool]] = {
    "AutoContrast": (_nothing, False),
    "Equalize": (_nothing, False),
    "Invert": (_nothing, False),
    "Rotate": (_either_sign(30.0), True),
    "PosterizeIncreasing": (lambda share, rng: max(1, 4 - int(4 * share)), False),  # Pillow keeps at least one bit
    "SolarizeIncreasing": (lambda share, rng: 256 - min(256, int(256 * share)), False),
    "SolarizeAdd": (lambda share, rng: min(128, int(110 * share)), False),
    "ColorIncreasing": (_enhance, False),
    "ContrastIncreasing": (_enhance, False),
    "BrightnessIncreasing": (_enhance, False),
    "SharpnessIncreasing": (_enhance, False),
    "ShearX": (_either_sign(0.3), True),
    "ShearY": (_either_sign(0.3), True),
    "TranslateXRel": (_either_sign(0.45), True),
    "TranslateYRel": (_either_sign(0.45), True),
}


@dataclass(frozen=True)
class RandAugment:
    """Draw and apply operations.

    Attributes:
        magnitude: mean level, 0–10.
        magnitude_std: standard deviation of the level.
        count: operations drawn for a picture, with replacement.
        probability: of applying each.
        fill: grey level, 0–255, of each channel, where a geometric operation uncovers the outside.
    """

    magnitude: float
    magnitude_std: float
    count: int
    probability: float
    fill: tuple[int, ...]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """A changed copy of an ``L`` or ``RGB`` image; the same generator state gives the same picture."""
        from timm.data.auto_augment import NAME_TO_OP  # here, since using a trained model needs no timm

        names = tuple(OPERATIONS)
        for place in rng.integers(len(names), size=self.count):
            if rng.random() >= self.probability:
                continue
            level = min(max(rng.normal(self.magnitude, self.magnitude_std), 0.0), _LEVELS)
            name = names[place]
            to_argument, moves = OPERATIONS[name]
            argument = to_argument(level / _LEVELS, rng)
            options = {"resample": random_filter(rng), "fillcolor": self._fill(image)} if moves else {}
            image = NAME_TO_OP[name](image, *([] if argument is None else [argument]), **options)  # type: ignore[operator]
        return image

    def _fill(self, image: Image.Image) -> int | tuple[int, ...]:
        return self.fill[0] if image.mode == "L" else self.fill


def random_filter(rng: np.random.Generator) -> Image.Resampling:
    """Bilinear or bicubic, evenly."""
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
