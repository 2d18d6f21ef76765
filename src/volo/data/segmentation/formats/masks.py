"""Reading a mask: from a picture of values or colors to the index of every pixel's class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from volo.color import hex_color
from volo.data.color_modes import apply_exif_orientation
from volo.data.images import MAX_PIXELS, ImageError, open_image
from volo.data.segmentation.classes import MaskClasses
from volo.messages import join_few, printable


class MaskError(ImageError):
    """A mask that can be read and says something else than a class for every pixel."""


def read_mask(
    path: str | Path, classes: MaskClasses, *, palette: bool = False, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The classes of a mask's pixels.

    Args:
        path: a gray picture of 1, 8 or 16 bits or one with a palette, whose values are those of ``classes``.
        classes: what values and colors stand for.
        palette: look at colors instead, those of a palette or of a color picture: each must be one of ``classes``.
        max_pixels: more, by the file's header, are not decoded.

    Returns:
        (H, W) uint8, indices of ``classes.names`` or ``IGNORE``.

    Raises:
        MaskError: a color picture where values are expected, or values or colors that stand for nothing.
        ImageError: the file is missing, unreadable, truncated, too large or no image.
    """
    with open_image(path, "mask", max_pixels) as image:
        lossy = image.format == "JPEG"
        image.load()
        mask = apply_exif_orientation(image)
    try:
        if lossy:
            raise ValueError("it is a JPEG, which blurs values where classes meet; save masks as PNG")
        return _by_color(mask, classes) if palette else _by_value(mask, classes)
    except ValueError as error:
        raise MaskError(f"mask {printable(path)}: {error}") from None


def mask_values(path: str | Path) -> np.ndarray:
    """(H, W), the values that a mask holds, whatever they stand for. Raises ImageError or MaskError."""
    with open_image(path, "mask", MAX_PIXELS) as image:
        image.load()
        mask = apply_exif_orientation(image)
    try:
        return _values(mask)
    except ValueError as error:
        raise MaskError(f"mask {printable(path)}: {error}") from None


def _by_value(mask: Image.Image, classes: MaskClasses) -> np.ndarray:
    values = _values(mask)
    # The table's last entry is for all that no 16 bits hold.
    bytes_alone = values.dtype == np.uint8
    indices = classes.lookup[values if bytes_alone else values.astype(np.int64).clip(-1, len(classes.lookup) - 1)]
    if indices.min() < 0:
        raise ValueError(
            f"it holds values of no class: {_counted(values[indices < 0])}; the classes have the values "
            f"{_ranges(sorted(classes.values))}: add a line to the file of classes, or mend the mask"
        )
    return indices.astype(np.uint8)


def _values(mask: Image.Image) -> np.ndarray:
    """(H, W) of whole numbers."""
    if mask.mode in ("LA", "PA"):
        mask = mask.getchannel(0)
    if mask.mode in ("1", "L", "P", "I") or mask.mode.startswith("I;16"):
        values = np.asarray(mask)
        return values.astype(np.uint8) if values.dtype == bool else values
    if mask.mode == "F":
        raise ValueError("its values are floating-point numbers; save the indices of the classes with 8 or 16 bits")
    raise ValueError(
        f"it is a color picture ({mask.mode}), not one of class indices; give every class its color in the file of "
        "classes and add --palette, or save it as gray or palette PNG"
    )


def _by_color(mask: Image.Image, classes: MaskClasses) -> np.ndarray:
    pixels = np.asarray(mask.convert("RGB")).astype(np.uint32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    codes = {red << 16 | green << 8 | blue: index for (red, green, blue), index in classes.codes.items()}
    known = np.array(sorted(codes), dtype=np.uint32)
    places = np.searchsorted(known, packed).clip(max=len(known) - 1)
    if (unknown := known[places] != packed).any():
        raise ValueError(
            f"it holds colors of no class: {_counted(packed[unknown], colors=True)}; add a line with the name of its "
            "class, or ignore, and the color to the file of classes"
        )
    return np.array([codes[int(code)] for code in known], dtype=np.uint8)[places]


def _counted(wrong: np.ndarray, *, colors: bool = False) -> str:
    """The values or packed colors and how many pixels have them, the most frequent first."""
    found, counts = np.unique(wrong, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [hex_color((v >> 16, v >> 8 & 255, v & 255)) if colors else f"{v}" for v in found[order].tolist()]
    return join_few(f"{name} ({n:,} pixels)" for name, n in zip(names, counts[order], strict=True))


def _ranges(values: Sequence[int]) -> str:
    """Rising numbers, neighbors as a range: ``0–10, 255``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return join_few(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
