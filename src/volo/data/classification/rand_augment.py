"""RandAugment whose draws are explicit: an operation and its argument are chosen first, then applied.

The operations are timm's; the choice is ours, so that every draw comes from the sample's own generator.
Policy ``rand-m9-mstd0.5-inc1`` in timm's notation: two operations a picture, each with probability one half.

Source: RandAugment, arXiv:1909.13719; the increasing set of magnitudes is timm's.
"""

import math
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

#: (left, top, right, bottom), pixels, the last two exclusive.
PixelBox = tuple[int, int, int, int]

#: (a, b, c, d, e, f): the point (x, y) of the result is (a·x + b·y + c, d·x + e·y + f) of the image. Pixel centers
#: lie at halves, as in Pillow's ``Image.transform``.
Affine = tuple[float, float, float, float, float, float]


def _rotation(degrees: float, width: int, height: int) -> Affine:
    """About the center, counter-clockwise; rounded as Pillow rounds, so that its ``rotate`` is met bit by bit."""
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y


#: The operations that move pixels → their affine from argument, width and height.
_AFFINES: dict[str, Callable[[float, int, int], Affine]] = {
    "Rotate": _rotation,
    "ShearX": lambda shear, width, height: (1, shear, 0, 0, 1, 0),
    "ShearY": lambda shear, width, height: (1, 0, 0, shear, 1, 0),
    "TranslateXRel": lambda share, width, height: (1, 0, share * width, 0, 1, 0),
    "TranslateYRel": lambda share, width, height: (1, 0, 0, 0, 1, share * height),
}


def _shifted(affine: Affine, to: PixelBox, source: PixelBox) -> Affine:
    """The affine between parts of the images: from the corner of ``to`` to the corner of ``source``."""
    a, b, c, d, e, f = affine
    x, y = to[:2]
    return a, b, a * x + b * y + c - source[0], d, e, d * x + e * y + f - source[1]


#: Operations that look at all pixels before they change one.
_WHOLE = ("AutoContrast", "Equalize", "ContrastIncreasing")


def _grown(box: PixelBox, margin: int, size: tuple[int, int]) -> PixelBox:
    """The box with a margin, as far as it lies in an image of ``size``; at least one pixel of that."""
    (left, top, right, bottom), (width, height) = box, size
    left, top = min(max(left - margin, 0), width - 1), min(max(top - margin, 0), height - 1)
    return left, top, max(min(right + margin, width), left + 1), max(min(bottom + margin, height), top + 1)


@dataclass(frozen=True)
class Operation:
    """One operation as it was drawn.

    Attributes:
        name: a key of ``OPERATIONS``.
        argument: its angle in degrees, shear, share of the side, bits, threshold or factor; None where it takes none.
        resample: the filter of one that moves pixels; None for one that only recolors.
    """

    name: str
    argument: float | None = None
    resample: Image.Resampling | None = None

    def affine(self, size: tuple[int, int]) -> Affine | None:
        """Where the result of an image of ``size`` (width, height) comes from; None for an operation that recolors."""
        if self.resample is None or self.argument is None:
            return None
        return _AFFINES[self.name](self.argument, *size)

    def needs(self, size: tuple[int, int], box: PixelBox) -> PixelBox:
        """The part of an image of ``size`` (width, height) that decides what the result shows inside ``box``."""
        if self.name in _WHOLE:
            return 0, 0, *size
        affine = self.affine(size)
        if affine is None:
            return _grown(box, 1, size) if self.name == "SharpnessIncreasing" else box
        a, b, c, d, e, f = affine
        corners = [(x, y) for x in box[::2] for y in box[1::2]]
        xs, ys = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
        moved = math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))
        return _grown(moved, 3, size)  # a bicubic filter reads two pixels to each side; one for rounding


@dataclass(frozen=True)
class RandAugment:
    """Draw and apply operations.

    Attributes:
        magnitude: mean level, 0–10.
        magnitude_std: standard deviation of the level.
        count: operations drawn for a picture, with replacement.
        probability: of applying each.
        fill: gray level, 0–255, of each channel, where a geometric operation uncovers the outside.
    """

    magnitude: float
    magnitude_std: float
    count: int
    probability: float
    fill: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> tuple[Operation, ...]:
        """The operations for one picture, in the order in which they are applied."""
        operations, names = [], tuple(OPERATIONS)
        for place in rng.integers(len(names), size=self.count):
            if rng.random() >= self.probability:
                continue
            level = min(max(rng.normal(self.magnitude, self.magnitude_std), 0.0), _LEVELS)
            to_argument, moves = OPERATIONS[names[place]]
            argument = to_argument(level / _LEVELS, rng)
            operations.append(Operation(names[place], argument, random_filter(rng) if moves else None))
        return tuple(operations)

    def apply(self, image: Image.Image, operations: tuple[Operation, ...], box: PixelBox) -> Image.Image:
        """The pixels inside ``box`` of an ``L``, ``RGB`` or ``RGBA`` image changed by ``operations``.

        Of the image before each operation no more is computed than that takes. Where pixels move, their coordinates
        are those of the whole image but for float64 rounding; everything else is exact. Recoloring leaves transparency
        as it is.
        """
        if not operations:
            return image if box == (0, 0, *image.size) else image.crop(box)
        *before, last = operations
        needed = last.needs(image.size, box)
        part = self.apply(image, tuple(before), needed)
        affine = last.affine(image.size)
        if affine is None or last.resample is None:
            part = _recolored(part, last)
            left, top = needed[:2]
            return part if needed == box else part.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
        fill = self.fill[0] if image.mode == "L" else self.fill
        size, shifted = (box[2] - box[0], box[3] - box[1]), _shifted(affine, box, needed)
        return part.transform(size, Image.Transform.AFFINE, shifted, last.resample, fillcolor=fill)


def _recolored(image: Image.Image, operation: Operation) -> Image.Image:
    """The image changed by an operation that moves no pixels; transparency stays as it is."""
    from timm.data.auto_augment import NAME_TO_OP  # here, since using a trained model needs no timm

    arguments = [] if operation.argument is None else [operation.argument]
    if image.mode != "RGBA":
        return NAME_TO_OP[operation.name](image, *arguments)  # type: ignore[operator]
    changed = NAME_TO_OP[operation.name](image.convert("RGB"), *arguments)  # type: ignore[operator]
    changed.putalpha(image.getchannel("A"))
    return changed


def random_filter(rng: np.random.Generator) -> Image.Resampling:
    """Bilinear or bicubic, evenly."""
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
