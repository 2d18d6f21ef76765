"""Recognition of a model's architecture from the names and shapes of its tensors, before anything is built."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.volo import VOLO
from volo.models.weights.read import ANCHOR

#: End of a tensor name that only another family of models has → the family.
_FAMILIES = {
    "layer1.0.conv1.weight": "a ResNet",
    "layers.0.blocks.0.attn.qkv.weight": "a Swin Transformer",
    "stages.0.blocks.0.conv_dw.weight": "a ConvNeXt",
    "features.0.0.weight": "a convolutional network of torchvision",
    "blocks.0.attn.qkv.weight": "a ViT",
}

#: The fields of a configuration that weights can be adapted to.
_FREE = ("img_size", "in_chans", "num_classes")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The architecture of a set of tensors, and their deviations from it.

    Attributes:
        config: the architecture. Fields that no shape shows are from the description, else from the variant, else
            assumed.
        certain: False if a field is assumed.
        variant: the name of the size without pixels (``volo_d1``); None for a custom size.
        classes: outputs of the class head; None without a class head.
        token_head: True if there is a head for the patch tokens.
        missing: names of the architecture's tensors that are not in the set.
        unexpected: names in the set that the architecture does not have.
        misshapen: names of tensors whose shape is not the architecture's.
    """

    config: VOLOConfig
    certain: bool
    variant: str | None
    classes: int | None
    token_head: bool
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model in one phrase: size, image size, classes, dims and blocks."""
        config = self.config
        size = "x".join(map(str, config.img_size))
        heads = f"{self.classes} classes" if self.classes else "no classes"
        body = f"dims {_list(config.dims)}, blocks {_list(config.depths)}"
        return f"{self.variant or 'a VOLO of a custom size'} at {size} pixels, {heads} ({body})"

    @property
    def names(self) -> list[str]:
        """The names of :func:`volo.list_models` that the weights fit, the name with the same image size first."""
        fitting = [name for name, config in VARIANTS.items() if not differences(self, config)]
        return sorted(fitting, key=lambda name: VARIANTS[name].img_size != self.config.img_size)

    @property
    def problems(self) -> list[str]:
        """The deviations from the architecture, one phrase each; empty if the tensors fit."""
        found = (("lacks", self.missing), ("has unexpected", self.unexpected), ("has wrong shapes for", self.misshapen))
        return [f"{verb} {_some(names)}" for verb, names in found if names]


def identify(
    weights: Mapping[str, Tensor], origin: str = "the weights", *, described: VOLOConfig | None = None
) -> Identity:
    """Recognize the architecture of ``weights``.

    Args:
        weights: tensors under VOLO's names; only their names and shapes are read.
        origin: the name of the weights in messages.
        described: the architecture from a description beside the weights; it is compared with them. None derives the
            architecture from the shapes.

    Raises:
        ValueError: The weights are not a VOLO's; the message gives the reason, and the family if it is recognized.
    """
    config, certain = (described, True) if described else _by_shapes(weights, origin)
    variant = next((name for name, known in VARIANTS.items() if _architecture(known) == _architecture(config)), None)
    expected = _expected_shapes(config)
    # Some exporters leave out BatchNorm's counter, which is not a learned value. Each head is optional.
    optional = {name for name in expected if name.endswith("num_batches_tracked") or _is_head(name)}
    return Identity(
        config=config,
        certain=certain,
        variant=variant and variant.rpartition("_")[0],
        classes=weights["head.weight"].shape[0] if "head.weight" in weights and weights["head.weight"].ndim else None,
        token_head="aux_head.weight" in weights,
        missing=tuple(name for name in expected if name not in weights and name not in optional)
        + tuple(f"{head}.bias" for head in ("head", "aux_head") if _lacks_bias(weights, head)),
        unexpected=tuple(name for name in weights if name not in expected),
        misshapen=tuple(n for n, t in weights.items() if n in expected and tuple(t.shape) != expected[n]),
    )


def _by_shapes(weights: Mapping[str, Tensor], origin: str) -> tuple[VOLOConfig, bool]:
    """Derive the architecture from the shapes, and return it with ``certain`` of :class:`Identity`.

    Only a variant is certain: its row gives the fields that no shape shows.
    """
    try:
        config = _config(weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{origin} is not a VOLO: {_why_not(weights, error)}") from error
    for known in VARIANTS.values():
        if _body(known) == _body(config):
            return replace(known, **{field: getattr(config, field) for field in _FREE}), True
    return config, False


def _expected_shapes(config: VOLOConfig) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every tensor of the architecture."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VOLO(config).state_dict().items()}


def differences(identity: Identity, config: VOLOConfig) -> list[str]:
    """Return the fields of ``config`` that differ from the weights' architecture, one phrase each.

    Image size, channels and classes are not compared: weights can be adapted to those.
    """
    actual, requested = _architecture(identity.config), _architecture(config)
    if not identity.certain:  # Shapes show the heads of the Outlookers, but neither the other heads nor the stride.
        actual["heads"], requested["heads"] = identity.config.heads[0], config.heads[0]
        del actual["outlook_stride"], requested["outlook_stride"]
    return [f"{field} {value}" for field, value in requested.items() if actual[field] != value]


def _config(weights: Mapping[str, Tensor]) -> VOLOConfig:
    """Derive the architecture from the shapes."""
    stem = _shape(weights, "patch_embed.conv.0.weight", 4)
    fine, _, half_patch, _ = _shape(weights, ANCHOR, 4)
    coarse = _shape(weights, "network.1.proj.weight", 4)[0]
    _, rows, columns, _ = _shape(weights, "pos_embed", 4)
    patch = 2 * half_patch
    classes = _shape(weights, "head.weight", 2)[0] if "head.weight" in weights else 0
    first, second, third, fourth = (_count(weights, f"network.{group}.") for group in (0, 2, 3, 4))
    kernel, heads = _outlook(_shape(weights, "network.0.0.attn.attn.weight", 2)[0], fine)
    return VOLOConfig(
        img_size=(2 * patch * rows, 2 * patch * columns),
        in_chans=stem[1],
        num_classes=classes or (_shape(weights, "aux_head.weight", 2)[0] if "aux_head.weight" in weights else 0),
        patch_size=patch,
        stem_width=stem[0],
        dims=(fine, coarse),
        depths=(first, second, third, fourth),
        heads=(heads, 1 if coarse % 32 else coarse // 32),
        mlp_ratio=_shape(weights, "network.0.0.mlp.fc1.weight", 2)[0] / fine,
        class_depth=_count(weights, "post_network."),
        outlook_kernel=kernel,
    )


def _shape(weights: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    shape = tuple(weights[name].shape)
    if len(shape) != ndim or not all(shape):
        raise ValueError(f"its {name} is {'x'.join(map(str, shape)) or 'a number'}, a VOLO's has {ndim} dimensions")
    return shape


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks of a group: the different numbers that follow its prefix."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)}
    blocks = sum(number.isdecimal() for number in numbers)
    if not blocks:
        raise KeyError(f"{prefix}0")
    return blocks


def _outlook(outputs: int, dim: int) -> tuple[int, int]:
    """Return (K, N) of an outlook attention that predicts N·K⁴ weights."""
    for kernel in (3, 5, 7):
        if outputs % kernel**4 == 0 and dim % (outputs // kernel**4) == 0:
            return kernel, outputs // kernel**4
    raise ValueError(f"its outlook attention has {outputs} weights, which is not a number of heads times 3⁴")


def _body(config: VOLOConfig) -> dict[str, Any]:
    """Return the settings that determine the names and shapes of the tensors, without the fields of ``_FREE``."""
    fields = ("dims", "depths", "patch_size", "stem_width", "class_depth", "outlook_kernel")
    hidden = tuple(int(dim * config.mlp_ratio) for dim in config.dims)
    return {**{field: getattr(config, field) for field in fields}, "MLP widths": hidden}


def _architecture(config: VOLOConfig) -> dict[str, Any]:
    """Return the same and the settings that no shape shows."""
    return {**_body(config), "heads": config.heads, "outlook_stride": config.outlook_stride}


def _is_head(name: str) -> bool:
    return name.startswith(("head.", "aux_head."))


def _lacks_bias(weights: Mapping[str, Tensor], head: str) -> bool:
    return f"{head}.weight" in weights and f"{head}.bias" not in weights


def _why_not(weights: Mapping[str, Tensor], error: Exception) -> str:
    family = next((family for name, family in _FAMILIES.items() if any(key.endswith(name) for key in weights)), None)
    reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
    names = ", ".join(list(weights)[:3])
    looks = f", and looks like {family}" if family else ""
    return f"{reason}{looks} (the first of its {len(weights)} tensors: {names})"


def _list(numbers: tuple[int, ...]) -> str:
    return "/".join(map(str, numbers))


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{', '.join(names[:2])}{more}"
