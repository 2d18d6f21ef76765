"""Models of timm as baselines, by name."""

from pathlib import Path
from typing import Any

import timm
from torch import nn

from volo.messages import nearest


def create(name: str, pixels: int | None = None, *, weights: str | Path | None = None) -> nn.Module:
    """Build a model of timm in evaluation mode.

    Args:
        name: timm's name of the model.
        pixels: height and width of the images; None takes the size that the model is made for.
        weights: a file of weights; None takes random weights.

    Raises:
        ValueError: timm does not know the model, or the model does not accept images of this size.
    """
    sized: dict[str, Any] = {} if pixels in (None, input_size(name)[-1]) else {"img_size": pixels}
    path = str(weights) if weights else ""
    try:
        return timm.create_model(name, checkpoint_path=path, **sized).eval()
    except TypeError:  # a network without the argument ``img_size`` accepts any size
        return timm.create_model(name, checkpoint_path=path).eval()
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"timm cannot build {name} for images of {pixels} pixels: {str(error).splitlines()[0]}"
        ) from error


def input_size(name: str) -> tuple[int, int, int]:
    """Return channels, height and width of the images that a model of timm is made for.

    Raises:
        ValueError: timm does not know the model.
    """
    try:
        settings = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        names = timm.list_models(pretrained="." in name)
        raise ValueError(f"timm has no model {name!r}{nearest(name, names)}") from error
    assert settings is not None
    channels, height, width = settings.input_size
    return channels, height, width
