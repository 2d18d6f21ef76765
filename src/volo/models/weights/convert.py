"""Conversion of models to files of other systems, and of other implementations' layers to ``OutlookAttention``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.files import atomic_write, check_writable_folder, created_folder
from volo.layers import OutlookAttention
from volo.messages import nearest
from volo.models.weights.identify import differences, identify
from volo.models.weights.load import Source, load_model
from volo.models.weights.model_folder import save_model, save_model_folder
from volo.models.weights.published import WEIGHTS
from volo.models.weights.trained import TrainedModel

#: System → the kind of file that :func:`convert` writes for it.
SYSTEMS = {
    "volo": "a folder that every command of this package reads",
    "timm": "a folder for timm.create_model('local-dir:FOLDER'), with its weights as model.safetensors",
    "official": "a .pth.tar file that the authors' code reads",
}


def convert(source: Source, destination: str | Path, *, to: str, ema: bool | None = None) -> TrainedModel:
    """Write a model in the format of another system; the model gives the same logits there.

    Args:
        source: see :func:`volo.models.load_model`.
        destination: the folder or file to write, which must not exist yet; see :data:`SYSTEMS`.
        to: volo, timm or official.
        ema: see :func:`volo.models.load_model`.

    Returns:
        The model that was written.

    Raises:
        ValueError: The source cannot be loaded, the system is unknown or has no model of this size, or the
            destination exists.
        OSError: The files cannot be written.
    """
    destination = Path(destination)
    if to not in SYSTEMS:
        raise ValueError(f"unknown system {to!r}{nearest(to, SYSTEMS)}")
    if destination.exists():
        raise ValueError(f"{destination} exists; choose another name")
    check_writable_folder(destination.parent)
    trained = load_model(source, ema=ema)
    description = _for_timm(trained) if to == "timm" else {}
    weights = trained.model.state_dict()
    if to == "official":
        if hidden := differences(identify(weights), trained.model.config):
            raise ValueError(
                f"the authors' format cannot store {', '.join(hidden)}, which no tensor shows; use --to volo"
            )
        with created_folder(destination.parent), atomic_write(destination) as temporary, temporary.open("wb") as file:
            torch.save({"state_dict": {name: tensor.clone() for name, tensor in weights.items()}}, file)
        return trained
    with created_folder(destination):
        if to == "timm":
            save_model_folder(destination, weights, description)
        else:
            save_model(
                destination,
                trained.model.config,
                weights,
                class_names=trained.class_names,
                preprocessing=trained.preprocessing,
            )
    return trained


def outlook_attention_layer(
    source: nn.Module | Mapping[str, Tensor], *, num_heads: int | None = None, stride: int | None = None
) -> OutlookAttention:
    """Build an ``OutlookAttention`` with the weights of another implementation; in evaluation, both compute the same.

    Two implementations are supported: the authors' (``v``, ``attn``, ``proj``), and External-Attention-pytorch's
    (``v_pj``, ``attn``, ``proj``). The latter passes padding and stride to ``nn.Unfold`` by position, where they
    become dilation and padding: it computes outlook attention only at stride 1 and padding 1, and other settings are
    an error. The dropout after the projection, which both have, is not converted.

    Args:
        source: the layer, or its state dict.
        num_heads: the number of heads, required with a state dict, whose shapes do not show it.
        stride: the stride, used with a state dict only; None means 1, the authors' default.

    Raises:
        ValueError: The layer is not an outlook attention of these two, or has settings that ``OutlookAttention`` cannot
            compute.
    """
    if isinstance(source, nn.Module):
        weights, settings = source.state_dict(), _settings(source)
    else:
        weights, settings = dict(source), {"num_heads": num_heads, "stride": stride or 1}
    positional = "v_pj.weight" in weights
    names = {("v" if name == "v_pj" else name, kind): f"{name}.{kind}" for name, kind in _tensors(positional)}
    if missing := [name for name in names.values() if name not in weights]:
        raise ValueError(
            f"this is not an outlook attention of the authors or of External-Attention-pytorch: it lacks {missing[0]}"
        )
    if not settings["num_heads"]:
        raise ValueError("a state dict does not show the number of heads: give num_heads")
    if unexpected := set(weights) - set(names.values()):
        raise ValueError(
            f"OutlookAttention has no {', '.join(sorted(unexpected))}: build the other layer with qkv_bias=False"
        )
    dim, outputs = weights["proj.weight"].shape[0], weights["attn.weight"].shape[0]
    kernel = round((outputs / settings["num_heads"]) ** 0.25)
    if kernel**4 * settings["num_heads"] != outputs:
        raise ValueError(f"{outputs} attention weights are not {settings['num_heads']} heads times the 4th power of K")
    if positional and (settings["stride"], settings.get("padding", 1), kernel) != (1, 1, 3):
        raise ValueError(
            "External-Attention-pytorch passes padding and stride to nn.Unfold as dilation and padding: its layer "
            "is an outlook attention only at kernel_size 3, stride 1 and padding 1"
        )
    if settings.get("padding", kernel // 2) != kernel // 2:
        raise ValueError(f"the padding must be {kernel // 2} for windows of {kernel}, not {settings['padding']}")
    layer = OutlookAttention(dim, settings["num_heads"], kernel_size=kernel, stride=settings["stride"])
    if settings.get("scale", layer.scale) != layer.scale:
        raise ValueError(f"the scale must be (dim / heads) ** -0.5 = {layer.scale:.6g}, not {settings['scale']:.6g}")
    layer.attn_drop = settings.get("attn_drop", 0.0)
    layer.load_state_dict({f"{part}.{kind}": weights[name] for (part, kind), name in names.items()})
    return layer


def _tensors(positional: bool) -> list[tuple[str, str]]:
    value = "v_pj" if positional else "v"
    return [(value, "weight"), ("attn", "weight"), ("attn", "bias"), ("proj", "weight"), ("proj", "bias")]


def _settings(layer: nn.Module) -> dict[str, Any]:
    """Return the settings in a layer's attributes, which have the same names in both implementations."""
    settings = {name: getattr(layer, name, None) for name in ("num_heads", "stride", "padding", "scale")}
    if unknown := [name for name, value in settings.items() if value is None]:
        raise ValueError(f"{type(layer).__name__} is not an outlook attention: it has no {unknown[0]}")
    return {**settings, "attn_drop": getattr(getattr(layer, "attn_drop", None), "p", 0.0)}


def _for_timm(trained: TrainedModel) -> dict[str, Any]:
    """Return the content of ``config.json`` in the format that timm writes for the hub."""
    config, settings = trained.model.config, trained.preprocessing
    identity = identify(trained.model.state_dict(), described=config)
    timm_names = [name for name in identity.names if f"{name}.sail_in1k" in WEIGHTS]
    if not timm_names:
        raise ValueError(
            f"timm has no model of the size of {identity.variant or 'this one'}; its class timm.models.volo.VOLO "
            "can load the weights that --to official writes as one file"
        )
    return {
        "architecture": timm_names[0],
        "num_classes": config.num_classes,
        "num_features": config.dims[1],
        "label_names": list(trained.class_names),
        "pretrained_cfg": {
            "input_size": [config.in_chans, *config.img_size],
            "fixed_input_size": True,
            "num_classes": config.num_classes,
            "pool_size": None,
            "crop_mode": "center",
            "first_conv": "patch_embed.conv.0",
            "classifier": ["head", "aux_head"],
            **{key: value for key, value in settings.items() if key != "size"},
        },
    }
