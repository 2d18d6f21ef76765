"""Models by name."""

from dataclasses import asdict
from typing import Any

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.volo import VOLO
from volo.names import nearest


def list_models() -> list[str]:
    """The names that :func:`create_model` knows, smallest first."""
    return list(VARIANTS)


def model_config(name: str) -> VOLOConfig:
    """The configuration of a named model; ``volo_d1`` without a size means its smallest form.

    Raises:
        ValueError: the name is unknown; the message gives the nearest.
    """
    for full in VARIANTS:
        if name in (full, full.rpartition("_")[0]):
            return VARIANTS[full]
    raise ValueError(f"unknown model {name!r}{nearest(name, VARIANTS)}")


def create_model(name: str, *, img_size: int | tuple[int, int] | None = None, **overrides: Any) -> VOLO:
    """Build a VOLO with fresh weights.

    Args:
        name: one of :func:`list_models`, or such a name without its size.
        img_size: pixels, a side or (height, width), for which the position embeddings are laid out.
        **overrides: fields of :class:`volo.models.VOLOConfig`: ``num_classes``, ``in_chans``,
            ``drop_path_rate`` and every other.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: the name or an argument is unknown (the message gives the nearest), or a value is not allowed.
    """
    if img_size is not None:
        overrides["img_size"] = img_size if isinstance(img_size, tuple) else (img_size, img_size)
    return VOLO(VOLOConfig.from_dict({**asdict(model_config(name)), **overrides}))
