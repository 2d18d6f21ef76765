"""Conversion of decoded images of any Pillow mode and color profile to 8-bit gray, RGB or RGBA in sRGB."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

#: Number of channels → Pillow's mode.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

#: The default color behind transparent pixels.
BACKGROUND = "white"

#: EXIF orientation → the operation that makes the image upright. Orientation 1 is upright already.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_upright(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """Apply the image's EXIF orientation and convert it with :func:`as_channels`."""
    return as_channels(apply_exif_orientation(image), channels, background)


def as_channels(image: Image.Image, channels: int, background: str = BACKGROUND) -> Image.Image:
    """Convert an image to 8-bit gray (1 channel), RGB (3) or RGBA (4), and its embedded color profile to sRGB.

    Args:
        image: of any mode; 16-bit values are scaled to 8 bits.
        channels: a key of ``MODES``.
        background: a color that Pillow knows; it replaces transparency, except with four channels.

    Raises:
        ValueError: The pixels are floating-point numbers, whose range no file states.
        ValueError: ``channels`` is not in ``MODES``.
    """
    mode = mode_of(channels)
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if profile:
        image = _to_srgb(image, profile)
    if image.mode != "RGBA":
        return image if image.mode == mode else image.convert(mode)
    return image if mode == "RGBA" else _over(image, background).convert(mode)


def mode_of(channels: int) -> str:
    """Return Pillow's mode for a number of channels.

    Raises:
        ValueError: ``channels`` is not in ``MODES``.
    """
    if channels not in MODES:
        raise ValueError(
            f"images are read with 1 channel (gray), 3 (color) or 4 (color and transparency), not {channels}; "
            "give other inputs as arrays, in Python"
        )
    return MODES[channels]


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (width, height) of the result of :func:`load_upright`, from the header alone."""
    sideways = _exif_transpose(image) in (_TRANSPOSES[5], _TRANSPOSES[6], _TRANSPOSES[7], _TRANSPOSES[8])
    if sideways and isinstance(image, TiffImageFile):
        # Pillow itself rotates a TIFF when it decodes it, and some versions give the rotated size before.
        stored = image.tag_v2.get(ExifTags.Base.ImageWidth), image.tag_v2.get(ExifTags.Base.ImageLength)
        sideways = image.size == stored
    return image.size[::-1] if sideways else image.size


def _exif_transpose(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Broken metadata raises many types of errors; the image is then read as it is stored.
        return None


def load_pixels(image: Image.Image) -> None:
    """Decode an image that was opened, as ``image.load()`` does."""
    if not isinstance(image, TiffImageFile):
        image.load()
        return
    # Some versions of Pillow scramble the pixels of a TIFF that lies sideways and is not compressed: they map the named
    # file into memory as if it were stored upright. Without a name, the pixels are read.
    name, image.filename = image.filename, ""
    try:
        image.load()
    finally:
        image.filename = name


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate or flip the image as its EXIF orientation requires.

    ``PIL.ImageOps.exif_transpose`` is not used: it rewrites the metadata and fails on unusual entries.
    """
    load_pixels(image)  # Pillow rotates some formats when it decodes them, and removes their orientation then.
    transpose = _exif_transpose(image)
    if transpose is None:
        return image
    result = image.transpose(transpose)
    # The orientation is dropped, so that no later step applies it again.
    result.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    return result


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert palettes and transparency of every kind to RGB or RGBA, and scale 16-bit gray to ``L``."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image.convert("RGB") if image.mode == "P" else image


def _over(image: Image.Image, background: str) -> Image.Image:
    base = Image.new("RGB", image.size, background)
    base.paste(image, mask=image.getchannel("A"))
    return base


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert the colors to sRGB; return the same image if the profile is broken or made for another mode."""
    transform = _srgb_transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@lru_cache(maxsize=16)  # Most data sets come from a few cameras and programs.
def _srgb_transform(profile: bytes, mode: str) -> Any:
    """Return the transform from ``profile`` to sRGB, or None if it is not needed or not possible."""
    from PIL import ImageCms  # imported here because most images embed no profile

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if (source.profile.profile_description or "").startswith("sRGB"):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGBA" if mode == "RGBA" else "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, ImportError):
        return None
