"""Models of timm's as peers: any of them, by name."""

from pathlib import Path
from typing import Any

import timm
from torch import nn

from volo.messages import nearest


def create(name: str, pixels: int | None = None, *, weights: str | Path | None = None) -> nn.Module:
    """Build a model for evaluation, of random weights or those in a file, for square images of ``pixels``.

    Raises:
        ValueError: timm has no such model, or it does not take such images.
    """
    sized: dict[str, Any] = {} if pixels in (None, input_size(name)[-1]) else {"img_size": pixels}
    path = str(weights) if weights else ""
    try:
        return timm.create_model(name, checkpoint_path=path, **sized).eval()
    except TypeError:  # a network that does not ask for a size takes any
        return timm.create_model(name, checkpoint_path=path).eval()
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"timm does not build {name} for {pixels} pixels: {str(error).splitlines()[0]}") from error


def input_size(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the images that a model was made for.

    Raises:
        ValueError: timm has no such model.
    """
    try:
        settings = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        names = timm.list_models(pretrained="." in name)
        raise ValueError(f"timm has no model {name!r}{nearest(name, names)}") from error
    assert settings is not None
    channels, height, width = settings.input_size
    return channels, height, width
