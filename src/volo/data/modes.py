"""From whatever mode and colours Pillow decodes an image in, to 8-bit grey, RGB or RGBA in sRGB."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps

#: Pillow's mode for a number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

#: What is laid behind transparent pixels.
BACKGROUND = "white"

_ORIENTATION = 0x0112


def upright(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """The image turned as its EXIF orientation says and in the channels of :func:`as_channels`."""
    return as_channels(_turned(image), channels, background)


def as_channels(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """The image as 8-bit grey (1 channel), RGB (3) or RGBA (4), its embedded colour profile converted to sRGB.

    Args:
        image: of any mode; 16 bits are scaled to 8.
        channels: a key of ``MODES``.
        background: a colour as Pillow names them, laid behind transparent pixels unless there are four channels.

    Raises:
        ValueError: floating-point pixels, whose range no file states; or a number of channels not in ``MODES``.
    """
    mode = mode_of(channels)
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if profile:
        image = _in_srgb(image, profile)
    if image.mode != "RGBA":
        return image if image.mode == mode else image.convert(mode)
    return image if mode == "RGBA" else _over(image, background).convert(mode)


def mode_of(channels: int) -> str:
    """Pillow's mode.

    Raises:
        ValueError: no picture has as many channels.
    """
    if channels not in MODES:
        raise ValueError(
            f"images are read with 1 channel (grey), 3 (colour) or 4 (colour and transparency), not {channels}; "
            "give other inputs as arrays, in Python"
        )
    return MODES[channels]


def _turned(image: Image.Image) -> Image.Image:
    try:
        # The library copies an image that needs no turning.
        return image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # metadata that cannot be parsed, in as many ways as there are parsers, says nothing
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Palettes and transparency of every kind resolved to RGB and RGBA, deep grey scaled to ``L``."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would cut 16-bit values off at 255.
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image.convert("RGB") if image.mode == "P" else image


def _over(image: Image.Image, background: str) -> Image.Image:
    base = Image.new("RGB", image.size, background)
    base.paste(image, mask=image.getchannel("A"))
    return base


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image with its colours converted; as it is where the profile is broken or made for another mode."""
    transform = _srgb_transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@lru_cache(maxsize=16)  # most collections hold a handful of cameras and programs
def _srgb_transform(profile: bytes, mode: str) -> Any:
    """What converts from ``profile`` to sRGB; None where nothing is to be done or can be."""
    from PIL import ImageCms  # here: most images embed no profile

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if (source.profile.profile_description or "").startswith("sRGB"):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGBA" if mode == "RGBA" else "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, ImportError):
        return None
