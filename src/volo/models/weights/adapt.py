"""Fitting weights to the model asked for: image size, channels, classes, precision; nothing is lost unsaid."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.layers import resize_position_embedding
from volo.models.config import VOLOConfig
from volo.models.volo import VOLO
from volo.models.weights.identify import Identity, differences
from volo.models.weights.read import ANCHOR

STEM = "patch_embed.conv.0.weight"


def adapt(
    weights: dict[str, Tensor],
    identity: Identity,
    config: VOLOConfig,
    *,
    origin: str,
    new_heads: bool,
    other_classes: bool = False,
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the state dict of a ``config`` model from weights of any image size, channels and precision.

    Position embeddings are resized bicubically, as the authors do. For patches of another size their projection is
    resampled so that a resized patch gives the token it gave (FlexiViT, arXiv:2212.08013, section 3.4). The first
    convolution is summed over its channels for gray images, and otherwise repeated and scaled, as timm does. A token
    head that is not there is zero, which gives the logits that the weights give without one. Half precision becomes
    float32.

    Args:
        weights: of :func:`volo.models.weights.read.read_checkpoint`.
        identity: what they are.
        config: the model that is wanted.
        origin: what messages call the weights.
        new_heads: the caller asked for ``config.num_classes``: heads of another number are replaced by fresh ones.
        other_classes: the heads were trained for other classes: they are replaced whatever their number.

    Returns:
        The state dict, and a phrase for each thing that was done to the weights.

    Raises:
        ValueError: the weights are another size's, lack tensors, have others, or have heads of another class count
            that was not asked for.
    """
    resampled = replace(identity, config=replace(identity.config, patch_size=config.patch_size))
    if others := differences(resampled, config):
        use = f"; create_model({identity.names[0]!r}, pretrained=…) takes it" if identity.names else ""
        raise ValueError(f"{origin} is {identity.name}, not the model asked for ({', '.join(others)}){use}")
    if identity.problems:
        raise ValueError(f"{origin} looks like {identity.name}, but {'; '.join(identity.problems)}")
    notes: list[str] = []
    adapted = _float32(weights, origin, notes)
    _patches(adapted, config, notes)
    _resize(adapted, config, notes)
    _channels(adapted, config, notes)
    _heads(adapted, identity, config, origin, notes, new=new_heads, others=other_classes)
    for name in [name for name in adapted if name.endswith("running_mean")]:
        adapted.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return adapted, notes


def build(config: VOLOConfig, weights: dict[str, Tensor]) -> VOLO:
    """A model around ``weights``, which become its parameters: nothing is initialized, nothing copied."""
    with torch.device("meta"):
        model = VOLO(config)
    model.load_state_dict(weights, strict=True, assign=True)
    return model


def _float32(weights: dict[str, Tensor], origin: str, notes: list[str]) -> dict[str, Tensor]:
    found = {tensor.dtype for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    if strange := [dtype for dtype in found if not dtype.is_floating_point or dtype.itemsize < 2]:
        raise ValueError(f"{origin} holds {strange[0]} weights; those of a VOLO are floating point of 16 bits or more")
    if torch.float64 in found:  # narrower kinds keep their values
        notes.append("float64 became float32")
    return {
        name: tensor.to(torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        for name, tensor in weights.items()
    }


def _patches(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    old, side = weights[ANCHOR], config.patch_size // 2  # the stem has halved the image
    had = old.shape[-1]
    if had == side:
        return
    places = torch.eye(had * had).unflatten(1, (1, had, had))
    resize = F.interpolate(places, (side, side), mode="bilinear", antialias=True).flatten(1)  # (had², side²)
    weights[ANCHOR] = (old.flatten(2) @ torch.linalg.pinv(resize).T).unflatten(2, (side, side))
    notes.append(f"projection of patches resampled from {2 * had} to {2 * side} pixels")


def _resize(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    old = weights["pos_embed"]
    grid = (config.img_size[0] // (2 * config.patch_size), config.img_size[1] // (2 * config.patch_size))
    new = resize_position_embedding(old, grid)
    if new is not old:
        weights["pos_embed"] = new.contiguous()
        notes.append(f"position embeddings resized from {old.shape[1]}x{old.shape[2]} to {grid[0]}x{grid[1]}")


def _channels(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    old = weights[STEM]
    had, wanted = old.shape[1], config.in_chans
    if had == wanted:
        return
    if wanted == 1:
        weights[STEM] = old.sum(dim=1, keepdim=True)
    else:
        weights[STEM] = old.repeat(1, math.ceil(wanted / had), 1, 1)[:, :wanted] * (had / wanted)
    notes.append(f"first convolution adapted from {had} to {wanted} channels")


def _heads(
    weights: dict[str, Tensor],
    identity: Identity,
    config: VOLOConfig,
    origin: str,
    notes: list[str],
    *,
    new: bool,
    others: bool,
) -> None:
    """Keep the heads, or put others in their place where that was asked for."""
    as_many = identity.classes == (config.num_classes or None)
    if as_many and not others and (config.num_classes or not identity.token_head):
        if config.num_classes and not identity.token_head:
            weights["aux_head.weight"] = torch.zeros_like(weights["head.weight"])
            weights["aux_head.bias"] = torch.zeros_like(weights["head.bias"])
            notes.append("there is no token head: a zero one gives the same logits")
        return
    alone = "a token head alone" if identity.token_head else "no class head"
    has = f"heads of {identity.classes} {'other ' if others else ''}classes" if identity.classes else alone
    if not new:
        keep = f"num_classes={identity.classes or 0}"
        raise ValueError(
            f"{origin} has {has}, the model asked for {config.num_classes}; give {keep} to keep what it has, "
            f"or num_classes={config.num_classes} for fresh heads"
        )
    for name in [name for name in weights if name.startswith(("head.", "aux_head."))]:
        del weights[name]
    if not config.num_classes:
        notes.append(f"{has} left out, as asked")
        return
    width = config.dims[1]
    for head in ("head", "aux_head"):
        weight = torch.empty(config.num_classes, width)
        nn.init.trunc_normal_(weight, std=config.init_std or width**-0.5)
        weights[f"{head}.weight"], weights[f"{head}.bias"] = weight, torch.zeros(config.num_classes)
    notes.append(f"{has} replaced by fresh ones of {config.num_classes}")
