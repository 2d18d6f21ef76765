"""Other people's VOLO, small: timm's class, and checkpoints laid out as others lay them out."""

import argparse

import torch
from timm.models.volo import VOLO as TimmVOLO
from torch import nn

from volo.models import VARIANTS, VOLOConfig


def timm_from_config(config: VOLOConfig, **settings) -> TimmVOLO:
    """timm's class, for a size that timm does not name."""
    (fine, coarse), (fine_heads, coarse_heads) = config.dims, config.heads
    arguments = {"img_size": config.img_size, "num_classes": config.num_classes, "in_chans": config.in_chans}
    return TimmVOLO(
        layers=config.depths,
        embed_dims=[fine, coarse, coarse, coarse],
        num_heads=[fine_heads, coarse_heads, coarse_heads, coarse_heads],
        patch_size=config.patch_size,
        stem_hidden_dim=config.stem_width,
        mlp_ratio=config.mlp_ratio,
        **{**arguments, **settings},
    )


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and statistics that all show in the logits: fresh ones hide biases and average windows evenly."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        elif name.endswith(("attn.attn.weight", "qkv.weight", "attn.kv.weight", "attn.q.weight")):
            parameter.mul_(4)
    nn.init.normal_(model.pos_embed, std=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


def timm_micro(seed: int = 0, **settings) -> TimmVOLO:
    """timm's class in the form of ``volo_micro_32``, every weight random, in evaluation mode."""
    torch.manual_seed(seed)
    return randomise(timm_from_config(VARIANTS["volo_micro_32"], **settings), seed).eval()


def of_authors(model: nn.Module, averaged: nn.Module | None = None, prefix: str = "module.") -> dict:
    """What the authors' training saves: wrapped names, an average, settings, epoch."""

    def named(model):
        return {prefix + name: tensor for name, tensor in model.state_dict().items()}

    content = {
        "epoch": 309,
        "arch": "volo_d1",
        "state_dict": named(model),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999)}]},
        "version": 2,
        "args": argparse.Namespace(model="volo_d1", lr=1.6e-3, data_dir="/data/imagenet", mean=None),
        "metric": 84.2,
    }
    return content if averaged is None else {**content, "state_dict_ema": named(averaged)}
