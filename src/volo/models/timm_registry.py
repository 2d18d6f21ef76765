"""Registration of this project's models in timm. Needs the extra ``volo[train]``."""

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

#: Name in timm → name here; the names differ because timm has a ``volo_d1_224`` of its own.
TIMM_NAMES = {name.replace("volo", "vision_outlooker", 1): name for name in VARIANTS}


def register_with_timm() -> list[str]:
    """Register this project's models with timm, ``volo_d1_224`` as ``vision_outlooker_d1_224``.

    The models accept the fields of :class:`volo.models.VOLOConfig` as arguments, and timm's ``features_only`` with
    ``out_indices`` 0 and 1 for the maps of the two stages. ``pretrained=True`` loads the published weights in timm's
    usual way. Another call changes nothing.

    Returns:
        The registered names.
    """
    for name in TIMM_NAMES:
        if not is_model(name):
            register_model(_entrypoint(name))
    return list(TIMM_NAMES)


class FeatureMaps(nn.Module):
    """A VOLO whose outputs are the maps of its stages, as in timm's ``features_only`` models.

    Args:
        model: the network; the parts that no map depends on are removed from it.
        out_indices: indices of the stages, 0 and 1, also negative; or the number of stages, counted from the end.

    Attributes:
        feature_info: timm's record of the channels and reductions of the maps.

    Raises:
        ValueError: There are no such stages.
    """

    def __init__(self, model: VOLO, out_indices: int | tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        last = {1: (1,), 2: (0, 1)}
        indices = last.get(out_indices, ()) if isinstance(out_indices, int) else tuple(out_indices)
        if not indices or not set(indices) <= {0, 1, -1, -2}:
            raise ValueError(f"out_indices must be 0 and 1, the two stages, or one of them, not {out_indices}")
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
        """Compute one map (B, C, h, w) for each of ``out_indices`` from images (B, in_chans, H, W)."""
        ends = (self.model.config.depths[0] - 1, -1)
        return list(self.model.get_intermediate_layers(images, [ends[i] for i in self.feature_info.out_indices]))


def _entrypoint(timm_name: str) -> Callable[..., nn.Module]:
    """Return the function that timm registers under its name, the model's."""

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
    """Build a model from the arguments of timm and of its scripts."""
    if drop_rate:
        raise ValueError(f"VOLO has no dropout before its heads: drop_rate must be 0, not {drop_rate}")
    return create_model(name, **options).to(device=device, dtype=dtype)


def _fit_position_embedding(weights: dict[str, Tensor], model: VOLO) -> dict[str, Tensor]:
    height, width = model.pos_embed.shape[1:3]
    return {**weights, "pos_embed": resize_position_embedding(weights["pos_embed"], (height, width))}


def _pretrained_cfg(name: str, weights: PublishedWeights | None) -> dict[str, Any]:
    """Return timm's description of a model and of its published weights."""
    config = VARIANTS[name]
    plain = 0.96 if min(config.img_size) >= 128 else 1.0  # small images are not cropped
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


#: Descriptions of the models, which timm reads under this name from the module of a registered function.
default_cfgs = generate_default_cfgs(dict(_pretrained_cfgs()))
