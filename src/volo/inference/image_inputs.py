"""Inputs of trained models: images of any form, and checks of preprocessing and weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import MAX_PIXELS, MODES, Preprocessing, load_upright, read_image
from volo.data.images import Shrink

#: A file, a PIL image, an array (H, W) or (H, W, C) uint8, 0–255, or a tensor (C, H, W) uint8, 0–255. C is 1, 3 or 4.
#: A model with another number of channels accepts only arrays and tensors with this number.
ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def preprocessing_of(fields: dict[str, Any], channels: int, path: object) -> Preprocessing:
    """Return the preprocessing that was saved with a model.

    Args:
        fields: fields of :class:`volo.data.Preprocessing`.
        channels: number of the model's input channels.
        path: the model's path, for error messages.

    Raises:
        ValueError: A field is unknown, or the preprocessing has another number of channels than the model.
    """
    try:
        preprocessing = Preprocessing.from_dict(fields)
    except ValueError as error:
        raise ValueError(
            f"this version of volo does not know the preprocessing described in {path}: {error}"
        ) from error
    if preprocessing.channels != channels:
        raise ValueError(
            f"the model in {path} takes {channels} channels, but its preprocessing gives {preprocessing.channels}"
        )
    return preprocessing


def check_finite(outputs: Tensor, path: object) -> None:
    """Check that all outputs of a model are finite.

    Args:
        outputs: outputs of the model.
        path: the model's path, for the error message.

    Raises:
        ValueError: A value is infinite or NaN.
    """
    if not outputs.isfinite().all():
        raise ValueError(
            f"the weights of {path} cannot be used: the outputs are not finite; download or train them again"
        )


def to_model_image(
    image: ImageLike,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    shrink: Shrink | None = None,
) -> Image.Image | np.ndarray:
    """Convert an image to the model's channels, and apply its EXIF orientation.

    Args:
        image: the image.
        preprocessing: of the model.
        max_pixels: see :func:`volo.data.read_image`; used for files only.
        shrink: see :func:`volo.data.read_image`; used for files only.

    Returns:
        A PIL image for 1, 3 or 4 channels, otherwise an array (H, W, C) uint8.

    Raises:
        volo.data.ImageError: The file cannot be read.
        ValueError: The image has another form than :data:`ImageLike` documents.
    """
    channels, background = preprocessing.channels, preprocessing.background
    if isinstance(image, str | Path):
        return read_image(image, channels, background=background, max_pixels=max_pixels, shrink=shrink)
    if isinstance(image, Tensor):
        image = _channels_last(image, channels)
    if isinstance(image, np.ndarray):
        _check_array(image, channels)
        if channels not in MODES:
            return image
        image = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"an image must be a path, a PIL image, an array or a tensor, not {type(image).__name__}")
    return load_upright(image, channels, background)


def _channels_last(tensor: Tensor, channels: int) -> np.ndarray:
    """Convert a tensor image to an array (H, W, C). Raises ValueError."""
    allowed = _allowed_channels(channels)
    if tensor.ndim != 3 or tensor.shape[0] not in allowed or tensor.dtype != torch.uint8:
        raise ValueError(
            f"a tensor image must be ({_join_or(allowed)}, H, W) uint8, 0–255, not {tuple(tensor.shape)} {tensor.dtype}"
        )
    return tensor.permute(1, 2, 0).contiguous().cpu().numpy()


def _check_array(array: np.ndarray, channels: int) -> None:
    """Check shape and dtype of an array image. Raises ValueError."""
    allowed = _allowed_channels(channels)
    gray = array.ndim == 2 and 1 in allowed
    if array.dtype != np.uint8 or not (gray or (array.ndim == 3 and array.shape[2] in allowed)) or not array.size:
        raise ValueError(
            f"an array image must be {'(H, W) or ' if 1 in allowed else ''}(H, W, {_join_or(allowed)}) uint8, 0–255, "
            f"not {tuple(array.shape)} {array.dtype}"
        )


def _allowed_channels(channels: int) -> tuple[int, ...]:
    """Return the numbers of channels that an array may have for a model with ``channels``."""
    return tuple(MODES) if channels in MODES else (channels,)


def _join_or(numbers: tuple[int, ...]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
