"""Pictures of an image with its mask on top."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from volo.color import Color
from volo.data.segmentation.classes import IGNORE


def overlay(image: Image.Image, mask: np.ndarray, colors: Sequence[Color], *, opacity: float = 0.5) -> Image.Image:
    """Tint every pixel of the image in the color of its class.

    Args:
        image: of any mode.
        mask: (H, W) uint8, of the image's size: class indices. Pixels with ``IGNORE`` are not tinted.
        colors: of the classes, by index.
        opacity: share of the color in the result, 0–1.

    Returns:
        An RGB image.
    """
    table = np.zeros((IGNORE + 1, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    shares = np.where(mask == IGNORE, 0, round(255 * opacity)).astype(np.uint8)
    return Image.composite(Image.fromarray(table[mask]), image.convert("RGB"), Image.fromarray(shares))
