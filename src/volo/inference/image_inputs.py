"""What every trained model is given and must be: images of any form, known preprocessing, finite weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from volo.data import MODES, Preprocessing, load_upright, read_image

#: A file, a picture, an array (H, W) or (H, W, C) uint8 0–255, or a tensor (C, H, W) uint8 0–255; C is 1, 3 or 4, or
#: the number of the model's channels where that is another: such a model takes arrays and tensors alone.
ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def preprocessing_of(said: dict[str, Any], channels: int, path: object) -> Preprocessing:
    """The preprocessing that a model from ``path``, of so many input channels, was saved with.

    Raises:
        ValueError: it has fields that are not known, or gives another number of channels.
    """
    try:
        preprocessing = Preprocessing.from_dict(said)
    except TypeError as error:
        raise ValueError(f"the preprocessing described in {path} is not known to this volo: {error}") from error
    if preprocessing.channels != channels:
        raise ValueError(
            f"the model in {path} takes {channels} channels, its preprocessing gives {preprocessing.channels}"
        )
    return preprocessing


def check_finite(outputs: Tensor, model: nn.Module | None, path: object) -> None:
    """See that a model from ``path``, which is None where it is an exported file, can be used.

    Raises:
        ValueError: an output is not finite; the weights at fault are named.
    """
    if not outputs.isfinite().all():
        weights = model.state_dict() if model is not None else {}
        bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
        what = f"{bad[0]} and {len(bad) - 1} others are" if bad else "what they give is"
        raise ValueError(f"the weights of {path} cannot be used: {what} not finite; fetch or train them anew")


def to_model_image(image: ImageLike, preprocessing: Preprocessing) -> Image.Image | np.ndarray:
    """The image in the model's channels, upright; as an array where there are as many as no picture has.

    Raises:
        volo.data.ImageError: a file that cannot be read. ValueError: it is of another form than documented.
    """
    channels, background = preprocessing.channels, preprocessing.background
    if isinstance(image, str | Path):
        return read_image(image, channels, background=background)
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
    allowed = _planes(channels)
    if tensor.ndim != 3 or tensor.shape[0] not in allowed or tensor.dtype != torch.uint8:
        raise ValueError(
            f"a tensor image must be ({_either(allowed)}, H, W) uint8, 0–255, not {tuple(tensor.shape)} {tensor.dtype}"
        )
    return tensor.permute(1, 2, 0).contiguous().cpu().numpy()


def _check_array(array: np.ndarray, channels: int) -> None:
    allowed = _planes(channels)
    gray = array.ndim == 2 and 1 in allowed
    if array.dtype != np.uint8 or not (gray or (array.ndim == 3 and array.shape[2] in allowed)) or not array.size:
        raise ValueError(
            f"an array image must be {'(H, W) or ' if 1 in allowed else ''}(H, W, {_either(allowed)}) uint8, 0–255, "
            f"not {tuple(array.shape)} {array.dtype}"
        )


def _planes(channels: int) -> tuple[int, ...]:
    """How many channels an array may have for a model of ``channels``."""
    return tuple(MODES) if channels in MODES else (channels,)


def _either(numbers: tuple[int, ...]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
