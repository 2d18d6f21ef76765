"""RandAugment with explicit draws: operations and their arguments are drawn first and applied later.

The operations are those of timm. They are drawn here, so that every draw comes from the generator of the sample.
The policy is ``rand-m9-mstd0.5-inc1`` in timm's notation: two operations for each image, each with probability 0.5.

Source: RandAugment, arXiv:1909.13719; the increasing magnitudes are those of timm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Highest level. The argument of an operation grows with level / 10.
_LEVELS = 10.0


def _either_sign(range_: float) -> Callable[[float, np.random.Generator], float]:
    return lambda share, rng: range_ * share * (-1.0 if rng.random() < 0.5 else 1.0)


def _enhance(share: float, rng: np.random.Generator) -> float:
    return max(0.1, 1.0 + _either_sign(0.9)(share, rng))


def _nothing(share: float, rng: np.random.Generator) -> None:
    return None


#: A function from level / 10 and a generator to the argument of an operation, None for one without an argument.
Argument = Callable[[float, np.random.Generator], float | None]

#: timm's name of an operation → (its argument as a function of level / 10, whether it moves pixels).
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

#: (left, top, right, bottom), pixels; right and bottom are exclusive.
PixelBox = tuple[int, int, int, int]

#: (a, b, c, d, e, f): the point (x, y) of the result shows the point (a·x + b·y + c, d·x + e·y + f) of the image. The
#: center of the first pixel is (0.5, 0.5), as in Pillow's ``Image.transform``.
Affine = tuple[float, float, float, float, float, float]


def _rotation(degrees: float, width: int, height: int) -> Affine:
    """Return the counter-clockwise rotation about the center, rounded as Pillow's ``rotate`` to equal it bit by bit."""
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y


#: Name of an operation that moves pixels → its affine as a function of argument, width and height.
_AFFINES: dict[str, Callable[[float, int, int], Affine]] = {
    "Rotate": _rotation,
    "ShearX": lambda shear, width, height: (1, shear, 0, 0, 1, 0),
    "ShearY": lambda shear, width, height: (1, 0, 0, shear, 1, 0),
    "TranslateXRel": lambda share, width, height: (1, 0, share * width, 0, 1, 0),
    "TranslateYRel": lambda share, width, height: (1, 0, 0, 0, 1, share * height),
}


def _shifted(affine: Affine, to: PixelBox, source: PixelBox) -> Affine:
    """Return the affine for coordinates that count from the corners of ``to`` (result) and ``source`` (image)."""
    a, b, c, d, e, f = affine
    x, y = to[:2]
    return a, b, a * x + b * y + c - source[0], d, e, d * x + e * y + f - source[1]


#: Operations that compute a statistic of the whole image first, so a part of the image is not enough.
_WHOLE = ("AutoContrast", "Equalize", "ContrastIncreasing")


def _grown(box: PixelBox, margin: int, size: tuple[int, int]) -> PixelBox:
    """Return the box with a margin, clipped to an image of ``size`` (width, height); it keeps at least one pixel."""
    (left, top, right, bottom), (width, height) = box, size
    left, top = min(max(left - margin, 0), width - 1), min(max(top - margin, 0), height - 1)
    return left, top, max(min(right + margin, width), left + 1), max(min(bottom + margin, height), top + 1)


@dataclass(frozen=True)
class Operation:
    """One drawn operation.

    Attributes:
        name: a key of ``OPERATIONS``.
        argument: angle in degrees, shear, shift as a share of the side, bits, threshold or factor; None for an
            operation without an argument.
        resample: filter of an operation that moves pixels; None for an operation that only recolors.
    """

    name: str
    argument: float | None = None
    resample: Image.Resampling | None = None

    def affine(self, size: tuple[int, int]) -> Affine | None:
        """Return the affine for an image of ``size`` (width, height); None for an operation that only recolors."""
        if self.resample is None or self.argument is None:
            return None
        return _AFFINES[self.name](self.argument, *size)

    def needs(self, size: tuple[int, int], box: PixelBox) -> PixelBox:
        """Return the box of an image of ``size`` (width, height) that decides the result inside ``box``."""
        if self.name in _WHOLE:
            return 0, 0, *size
        affine = self.affine(size)
        if affine is None:
            return _grown(box, 1, size) if self.name == "SharpnessIncreasing" else box
        a, b, c, d, e, f = affine
        corners = [(x, y) for x in box[::2] for y in box[1::2]]
        xs, ys = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
        moved = math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))
        return _grown(moved, 3, size)  # two pixels for the bicubic filter, one for rounding


@dataclass(frozen=True)
class RandAugment:
    """Drawing and applying operations.

    Attributes:
        magnitude: mean level, 0–10.
        magnitude_std: standard deviation of the level.
        count: number of operations drawn for an image, with replacement.
        probability: probability of applying each.
        fill: value of each channel, 0–255, for pixels that come from outside the image.
    """

    magnitude: float
    magnitude_std: float
    count: int
    probability: float
    fill: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> tuple[Operation, ...]:
        """Draw the operations for one image, in the order in which they are applied."""
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
        """Apply ``operations`` to an ``L``, ``RGB`` or ``RGBA`` image and return the pixels inside ``box``.

        Before each operation only the pixels that the later ones need are computed. The result is that of the whole
        image, exact for recoloring and up to float64 rounding of the coordinates where pixels move. Recoloring keeps
        the transparency.
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
    """Apply an operation that moves no pixels; keep the transparency."""
    from timm.data.auto_augment import NAME_TO_OP  # imported here, since using a trained model needs no timm

    arguments = [] if operation.argument is None else [operation.argument]
    if image.mode != "RGBA":
        return NAME_TO_OP[operation.name](image, *arguments)  # type: ignore[operator]
    changed = NAME_TO_OP[operation.name](image.convert("RGB"), *arguments)  # type: ignore[operator]
    changed.putalpha(image.getchannel("A"))
    return changed


def random_filter(rng: np.random.Generator) -> Image.Resampling:
    """Draw bilinear or bicubic, each with probability 0.5."""
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
