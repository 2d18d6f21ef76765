"""Adaptation of weights to another image size, patch size, channels, classes or precision; each change is reported."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.layers import resize_position_embedding
from volo.models.config import VOLOConfig
from volo.models.volo import VOLO
from volo.models.weights.identify import Identity, differences
from volo.models.weights.read import ANCHOR, check_finite_weights

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
    """Convert weights of any image size, channels and precision to the state dict of a ``config`` model.

    - Position embeddings are resized bicubically, as in the authors' code.
    - The patch projection is resampled to another patch size, so that a resized patch gives the same token as before
      (FlexiViT, arXiv:2212.08013, section 3.4).
    - The first convolution is summed over its channels for gray images, otherwise repeated and scaled, as in timm.
    - A missing token head becomes zero, which does not change the logits.
    - All floating dtypes become float32.

    Args:
        weights: the tensors of :func:`volo.models.weights.read.read_checkpoint`.
        identity: their architecture.
        config: the architecture of the requested model.
        origin: the name of the weights in messages.
        new_heads: replace heads of another number of classes than ``config.num_classes`` by fresh ones; False makes
            them an error.
        other_classes: the heads were trained for other classes; with ``new_heads``, heads of the same number of
            classes are replaced, too.

    Returns:
        The state dict, and a phrase for each change.

    Raises:
        ValueError: The weights are of another architecture, lack tensors, have unexpected ones, are not finite, or have
            other heads and ``new_heads`` is False.
    """
    resampled = replace(identity, config=replace(identity.config, patch_size=config.patch_size))
    if different := differences(resampled, config):
        use = f"; create_model({identity.names[0]!r}, pretrained=…) loads it" if identity.names else ""
        raise ValueError(f"{origin} is {identity.name}, not the requested model ({', '.join(different)}){use}")
    if identity.problems:
        raise ValueError(f"{origin} looks like {identity.name}, but {'; '.join(identity.problems)}")
    notes: list[str] = []
    adapted = _float32(weights, origin, notes)
    _patches(adapted, config, notes)
    _position_embeddings(adapted, config, notes)
    _channels(adapted, config, notes)
    _heads(adapted, identity, config, origin, notes, new_heads=new_heads, other_classes=other_classes)
    for name in [name for name in adapted if name.endswith("running_mean")]:
        adapted.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    check_finite_weights(origin, adapted)
    return adapted, notes


def build(config: VOLOConfig, weights: dict[str, Tensor]) -> VOLO:
    """Build a model whose parameters are the given tensors, without initialization and without copies."""
    with torch.device("meta"):
        model = VOLO(config)
    model.load_state_dict(weights, strict=True, assign=True)
    return model


def _float32(weights: dict[str, Tensor], origin: str, notes: list[str]) -> dict[str, Tensor]:
    found = {tensor.dtype for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    if strange := [dtype for dtype in found if not dtype.is_floating_point or dtype.itemsize < 2]:
        raise ValueError(f"{origin} holds {strange[0]} weights; those of a VOLO are floating point of 16 bits or more")
    if torch.float64 in found:  # float32 holds every value of the narrower types
        notes.append("float64 converted to float32")
    return {
        name: tensor.to(torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        for name, tensor in weights.items()
    }


def _patches(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    """Resample the patch projection to ``config.patch_size``."""
    old, side = weights[ANCHOR], config.patch_size // 2  # the stem has halved the image
    old_side = old.shape[-1]
    if old_side == side:
        return
    # Bilinear resizing of a patch x is linear: resized = x @ resize, where row i of ``resize`` is the resized picture
    # whose pixel i is 1 and whose other pixels are 0. The new kernel w' must give the same token for the resized patch
    # as the old kernel w gave for x: (x @ resize) · w' = x · w for all x, so resize @ w' = w. The pseudoinverse solves
    # that exactly if patches grow, and by least squares if they shrink.
    pixels = torch.eye(old_side * old_side).unflatten(1, (1, old_side, old_side))
    resize = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True).flatten(1)  # (old_side², side²)
    weights[ANCHOR] = (old.flatten(2) @ torch.linalg.pinv(resize).T).unflatten(2, (side, side))
    notes.append(f"patch projection resampled from {2 * old_side} to {2 * side} pixels")


def _position_embeddings(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    """Resize the position embeddings to the stage-2 token grid of ``config.img_size``."""
    old = weights["pos_embed"]
    grid = (config.img_size[0] // (2 * config.patch_size), config.img_size[1] // (2 * config.patch_size))
    new = resize_position_embedding(old, grid)
    if new is not old:
        weights["pos_embed"] = new.contiguous()
        notes.append(f"position embeddings resized from {old.shape[1]}x{old.shape[2]} to {grid[0]}x{grid[1]}")


def _channels(weights: dict[str, Tensor], config: VOLOConfig, notes: list[str]) -> None:
    """Adapt the first convolution to ``config.in_chans`` input channels."""
    weight = weights[STEM]
    old, new = weight.shape[1], config.in_chans
    if old == new:
        return
    if new == 1:
        weights[STEM] = weight.sum(dim=1, keepdim=True)
    else:
        weights[STEM] = weight.repeat(1, math.ceil(new / old), 1, 1)[:, :new] * (old / new)
    notes.append(f"first convolution adapted from {old} to {new} channels")


def _heads(
    weights: dict[str, Tensor],
    identity: Identity,
    config: VOLOConfig,
    origin: str,
    notes: list[str],
    *,
    new_heads: bool,
    other_classes: bool,
) -> None:
    """Keep the heads if they fit; otherwise replace or remove them if that is requested."""
    same_count = identity.classes == (config.num_classes or None)
    if same_count and not other_classes and (config.num_classes or not identity.token_head):
        if config.num_classes and not identity.token_head:
            weights["aux_head.weight"] = torch.zeros_like(weights["head.weight"])
            weights["aux_head.bias"] = torch.zeros_like(weights["head.bias"])
            notes.append("token head is missing and set to zero, which does not change the logits")
        return
    headless = "only a token head" if identity.token_head else "no class head"
    heads = f"heads of {identity.classes} {'other ' if other_classes else ''}classes" if identity.classes else headless
    if not new_heads:
        keep = f"num_classes={identity.classes or 0}"
        raise ValueError(
            f"{origin} has {heads}, the requested model {config.num_classes} classes; give {keep} to keep what it "
            f"has, or num_classes={config.num_classes} for fresh heads"
        )
    for name in [name for name in weights if name.startswith(("head.", "aux_head."))]:
        del weights[name]
    if not config.num_classes:
        notes.append(f"{heads} left out, as requested")
        return
    width = config.dims[1]
    for head in ("head", "aux_head"):
        weight = torch.empty(config.num_classes, width)
        nn.init.trunc_normal_(weight, std=config.init_std or width**-0.5)
        weights[f"{head}.weight"], weights[f"{head}.bias"] = weight, torch.zeros(config.num_classes)
    notes.append(f"{heads} replaced by fresh ones of {config.num_classes}")
