"""Reading of mask files: from a picture of values or colors to the class index of every pixel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from volo.color import hex_color
from volo.data.color_modes import apply_exif_orientation
from volo.data.images import MAX_PIXELS, ImageError, open_image
from volo.data.segmentation.classes import MaskClasses
from volo.messages import join_few, printable

#: Pixels whose colors are looked up at once.
_PIXELS_AT_ONCE = 1 << 20


class MaskError(ImageError):
    """A mask that can be read, but does not give a class for every pixel."""


def read_mask(
    path: str | Path, classes: MaskClasses, *, palette: bool = False, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read the class of every pixel from a mask file.

    Args:
        path: of a gray picture with 1, 8 or 16 bits, or a picture with a palette. Its values are those of ``classes``.
        classes: values and colors of the classes.
        palette: read the colors instead of the values, from a palette or a color picture. Every color must be in
            ``classes``.
        max_pixels: limit of pixels, checked against the file's header before decoding.

    Returns:
        (H, W) uint8, indices of ``classes.names`` or ``IGNORE``.

    Raises:
        MaskError: The mask is a color picture, but ``palette`` is False; it is a JPEG; or it has values or colors of no
            class.
        ImageError: The file is missing, unreadable, truncated, too large or not an image.
    """
    with open_image(path, "mask", max_pixels) as image:
        lossy = image.format == "JPEG"
        mask = apply_exif_orientation(image)
    try:
        if lossy:
            raise ValueError("it is a JPEG, which blurs values where classes meet; save masks as PNG")
        return _by_color(mask, classes) if palette else _by_value(mask, classes)
    except ValueError as error:
        raise MaskError(f"mask {printable(path)}: {error}") from None


def mask_values(path: str | Path) -> np.ndarray:
    """Read the values (H, W) of a mask without looking up classes.

    Raises:
        MaskError: The mask is a color picture or has floating-point values.
        ImageError: The file cannot be read.
    """
    with open_image(path, "mask", MAX_PIXELS) as image:
        mask = apply_exif_orientation(image)
    try:
        return _values(mask)
    except ValueError as error:
        raise MaskError(f"mask {printable(path)}: {error}") from None


def _by_value(mask: Image.Image, classes: MaskClasses) -> np.ndarray:
    values = _values(mask)
    # Values outside of 0–65535 are mapped to the last entry of the table, which has no class.
    wide = values.dtype not in (np.uint8, np.uint16)
    indices = classes.lookup[values.clip(-1, len(classes.lookup) - 1) if wide else values]
    if indices.min() < 0:
        raise ValueError(
            f"it holds values of no class: {_counted(values[indices < 0])}; the classes have the values "
            f"{_ranges(sorted(classes.values))}: add a line to the classes file, or correct the mask"
        )
    return indices.astype(np.uint8)


def _values(mask: Image.Image) -> np.ndarray:
    """Return the integer values (H, W) of a mask."""
    if mask.mode in ("LA", "PA"):
        mask = mask.getchannel(0)
    if mask.mode in ("1", "L", "P", "I") or mask.mode.startswith("I;16"):
        values = np.asarray(mask)
        return values.astype(np.uint8) if values.dtype == bool else values
    if mask.mode == "F":
        raise ValueError("its values are floating-point numbers; save the indices of the classes with 8 or 16 bits")
    raise ValueError(
        f"it is a color picture ({mask.mode}), not a picture of class indices; give every class its color in the "
        "classes file and add --palette, or save the mask as gray or palette PNG"
    )


def _by_color(mask: Image.Image, classes: MaskClasses) -> np.ndarray:
    codes = {red << 16 | green << 8 | blue: index for (red, green, blue), index in classes.codes.items()}
    known = np.array(sorted(codes), dtype=np.uint32)
    indices = np.array([codes[int(code)] for code in known], dtype=np.uint8)
    pixels = np.asarray(mask.convert("RGB"))
    result, unknown = np.empty(pixels.shape[:2], np.uint8), []
    # The search takes 20 bytes for each pixel, so it takes some rows at a time.
    rows = max(1, _PIXELS_AT_ONCE // mask.width)
    for top in range(0, mask.height, rows):
        block = pixels[top : top + rows].astype(np.uint32)
        packed = block[..., 0] << 16 | block[..., 1] << 8 | block[..., 2]
        places = np.searchsorted(known, packed).clip(max=len(known) - 1)
        result[top : top + rows] = indices[places]
        unknown.append(packed[known[places] != packed])
    if any(map(len, unknown)):
        raise ValueError(
            f"it holds colors of no class: {_counted(np.concatenate(unknown), colors=True)}; add a line with the name "
            "of its class, or ignore, and the color to the classes file"
        )
    return result


def _counted(wrong: np.ndarray, *, colors: bool = False) -> str:
    """Describe the wrong values or packed colors and their numbers of pixels, the most frequent first."""
    found, counts = np.unique(wrong, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [hex_color((v >> 16, v >> 8 & 255, v & 255)) if colors else f"{v}" for v in found[order].tolist()]
    return join_few(f"{name} ({n:,} pixels)" for name, n in zip(names, counts[order], strict=True))


def _ranges(values: Sequence[int]) -> str:
    """Format ascending numbers, with consecutive ones as a range: ``0–10, 255``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return join_few(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
