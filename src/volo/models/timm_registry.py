"""This project's models in timm's registry, beside timm's own. Needs the extra ``volo[train]``."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.models import FeatureInfo, build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import Tensor, nn

from volo.layers import resize_position_embedding
from volo.models.config import VARIANTS
from volo.models.factory import create_model
from volo.models.volo import VOLO
from volo.models.weights.published import WEIGHTS, PublishedWeights

#: Name in timm → name here; timm has a ``volo_d1_224`` of its own, and keeps it.
TIMM_NAMES = {name.replace("volo", "vision_outlooker", 1): name for name in VARIANTS}


def register_with_timm() -> list[str]:
    """Let ``timm.create_model`` build this project's models: ``volo_d1_224`` as ``vision_outlooker_d1_224``.

    They take the fields of :class:`volo.models.VOLOConfig` as arguments, and timm's ``features_only`` with
    ``out_indices`` 0 and 1 for the maps of the two stages. ``pretrained=True`` reads the published weights, as timm
    reads those of its own models. Calling this again changes nothing.

    Returns:
        The names that timm knows now.
    """
    for name in TIMM_NAMES:
        if not is_model(name):
            register_model(_entrypoint(name))
    return list(TIMM_NAMES)


class FeatureMaps(nn.Module):
    """A VOLO that gives the maps of its stages alone, as timm's ``features_only`` models do.

    Attributes:
        feature_info: timm's record of the maps' channels and reductions.
    """

    def __init__(self, model: VOLO, out_indices: int | tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        last = {1: (1,), 2: (0, 1)}
        indices = last.get(out_indices, ()) if isinstance(out_indices, int) else tuple(out_indices)
        if not indices or not set(indices) <= {0, 1, -1, -2}:
            raise ValueError(f"out_indices must be among 0 and 1, the two stages, not {out_indices}")
        model.keep_feature_maps()
        del model.norm
        self.model = model
        self.feature_info = FeatureInfo(
            [
                {"num_chs": channels, "reduction": stride, "module": f"network.{module}"}
                for channels, stride, module in zip(model.feature_channels, model.feature_strides, (0, 4), strict=True)
            ],
            indices,
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, in_chans, H, W) to maps (B, C, h, w), one for each of ``out_indices``."""
        ends = (self.model.config.depths[0] - 1, -1)
        return list(self.model.get_intermediate_layers(images, [ends[i] for i in self.feature_info.out_indices]))


def _entrypoint(timm_name: str) -> Callable[..., nn.Module]:
    """The function that timm calls; its name is the model's."""

    def entrypoint(pretrained: bool = False, *, out_indices: Any = (0, 1), **options: Any) -> nn.Module:
        return build_model_with_cfg(
            _build,
            timm_name,
            pretrained,
            pretrained_filter_fn=_fit_position_embedding,
            feature_cfg={"out_indices": out_indices, "feature_cls": FeatureMaps},
            name=TIMM_NAMES[timm_name],
            **options,
        )

    entrypoint.__name__ = timm_name
    entrypoint.__doc__ = f"This project's {TIMM_NAMES[timm_name]}."
    return entrypoint


def _build(
    name: str,
    *,
    drop_rate: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> VOLO:
    """A model from the arguments that timm and its scripts pass."""
    if drop_rate:
        raise ValueError(f"VOLO has no dropout before its heads: drop_rate must be 0, not {drop_rate}")
    return create_model(name, **options).to(device=device, dtype=dtype)


def _fit_position_embedding(weights: dict[str, Tensor], model: VOLO) -> dict[str, Tensor]:
    height, width = model.pos_embed.shape[1:3]
    return {**weights, "pos_embed": resize_position_embedding(weights["pos_embed"], (height, width))}


def _pretrained_cfg(name: str, weights: PublishedWeights | None) -> dict[str, Any]:
    """What timm is to know of a model, and of weights that are published for it."""
    config = VARIANTS[name]
    plain = 0.96 if min(config.img_size) >= 128 else 1.0  # the whole image where there are few pixels
    described = {
        "num_classes": config.num_classes,
        "input_size": (config.in_chans, *config.img_size),
        "interpolation": "bicubic",
        "crop_pct": weights.crop_pct if weights else plain,
        "first_conv": "patch_embed.conv.0",
        "classifier": ("head", "aux_head"),
    }
    return {**described, "hf_hub_id": weights.repo, "license": weights.license} if weights else described


def _pretrained_cfgs() -> Iterator[tuple[str, dict[str, Any]]]:
    for timm_name, name in TIMM_NAMES.items():
        published = [weights for weights in WEIGHTS.values() if weights.model == name]
        if not published:
            yield timm_name, _pretrained_cfg(name, None)
        for weights in published:
            yield f"{timm_name}.{weights.tag}", _pretrained_cfg(name, weights)


#: Where timm looks for them: beside the functions that are registered.
default_cfgs = generate_default_cfgs(dict(_pretrained_cfgs()))
