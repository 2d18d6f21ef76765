"""From whatever mode and colors Pillow decodes an image in, to 8-bit gray, RGB or RGBA in sRGB."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image

#: Pillow's mode for a number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

#: What is laid behind transparent pixels.
BACKGROUND = "white"

#: EXIF's orientation → what sets it right; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_upright(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """The image turned as its EXIF orientation says and in the channels of :func:`as_channels`."""
    return as_channels(apply_exif_orientation(image), channels, background)


def as_channels(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """The image as 8-bit gray (1 channel), RGB (3) or RGBA (4), its embedded color profile converted to sRGB.

    Args:
        image: of any mode; 16 bits are scaled to 8.
        channels: a key of ``MODES``.
        background: a color as Pillow names them, laid behind transparent pixels unless there are four channels.

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
            f"images are read with 1 channel (gray), 3 (color) or 4 (color and transparency), not {channels}; "
            "give other inputs as arrays, in Python"
        )
    return MODES[channels]


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) that :func:`load_upright` will give, by the header alone."""
    sideways = _turn(image) in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
    return image.size[::-1] if sideways else image.size


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # metadata that cannot be parsed, in as many ways as there are parsers, says nothing
        return None


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says.

    Not by Pillow's own function, which writes the metadata anew and so fails on what is odd in it.
    """
    turn = _turn(image)
    if turn is None:
        return image
    result = image.transpose(turn)
    # Without the metadata, so that nobody turns it once more.
    result.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    return result


def _eight_bits(image: Image.Image) -> Image.Image:
    """Palettes and transparency of every kind resolved to RGB and RGBA, deep gray scaled to ``L``."""
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
    """The image with its colors converted; as it is where the profile is broken or made for another mode."""
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
