"""Optimizer and learning-rate schedule, from timm.

Source: VOLO, arXiv:2106.13112, section 4.1.
"""

from itertools import accumulate
from typing import Any

import torch
from timm.optim import Muon
from timm.scheduler import CosineLRScheduler

from volo.models import VOLO, VOLOConfig
from volo.training.config import OptimConfig


def learning_rate(config: OptimConfig, global_batch: int) -> float:
    """The rate at the schedule's height, linear in the global batch where ``lr_batch`` says so."""
    return config.lr * _scale(config, global_batch)


def _scale(config: OptimConfig, global_batch: int) -> float:
    """What all rates are multiplied by."""
    return 1.0 if config.lr_batch is None else global_batch / config.lr_batch


def freeze_backbone(model: VOLO) -> None:
    """Leave the two heads alone to learn: all else keeps its weights, in evaluation mode."""
    model.requires_grad_(False).eval()
    for head in (model.head, model.aux_head):
        assert head is not None  # a classifier has both
        head.requires_grad_(True).train()


def layer_of(name: str, config: VOLOConfig) -> int:
    """The layer that the parameter ``name`` belongs to, counted from 0, the stem.

    Every block is a layer, and so are the downsampling with the position embedding, and the heads with their norm.
    """
    outlookers, *transformers = config.depths
    starts = list(accumulate((outlookers, 1, *transformers), initial=1))  # of network.0 to network.4 and post_network
    match name.split("."):
        case ["patch_embed", *_]:
            return 0
        case ["network", "1", *_] | ["pos_embed"]:
            return starts[1]
        case ["network", group, block, *_]:
            return starts[int(group)] + int(block)
        case ["cls_token"]:
            return starts[-1]
        case ["post_network", block, *_]:
            return starts[-1] + int(block)
    return starts[-1] + config.class_depth


def parameter_groups(model: VOLO, config: OptimConfig) -> list[dict[str, Any]]:
    """What is to be moved: groups of one weight decay and one ``lr_scale`` (by which timm's schedules multiply).

    Biases, norms, ``pos_embed`` and ``cls_token`` do not decay. The first group has the whole rate.
    """
    last = layer_of("head.weight", model.config)
    groups: dict[tuple[float, bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** (last - layer_of(name, model.config))
            decays = parameter.ndim > 1 and name not in model.no_weight_decay()
            matrix = config.optimizer == "muon" and decays and "head" not in name
            groups.setdefault((scale, decays, matrix), []).append(parameter)
    return [
        {
            "params": groups[scale, decays, matrix],
            "lr_scale": scale,
            "weight_decay": config.weight_decay if decays else 0.0,
            **({} if config.optimizer == "adamw" else {"use_fallback": not matrix}),
        }
        for scale, decays, matrix in sorted(groups, key=lambda key: (-key[0], key[1:]))
    ]


def _optimizer(groups: list[dict[str, Any]], config: OptimConfig, rate: float) -> torch.optim.Optimizer:
    if config.optimizer == "muon":
        return Muon(groups, lr=rate, betas=config.betas, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)


class _EpochwiseCosine(CosineLRScheduler):
    """A cosine over steps whose rate stays, all epoch long, what it is at the epoch's first step."""

    def __init__(self, *arguments: Any, steps_per_epoch: int, **options: Any) -> None:
        self.steps_per_epoch = steps_per_epoch
        super().__init__(*arguments, **options)

    def _get_lr(self, t: int) -> list[float]:
        return super()._get_lr(t - t % self.steps_per_epoch)


def configure_optimizers(
    model: VOLO, config: OptimConfig, *, epochs: int, steps_per_epoch: int, global_batch: int
) -> dict[str, Any]:
    """The optimizer with the paper's parameter groups, and a schedule to be stepped after every optimizer step.

    The cosine spans all epochs but the cool-down, the warm-up being the beginning of it. The whole curve scales with
    the global batch.
    """
    scale = _scale(config, global_batch)
    groups = parameter_groups(model, config)
    optimizer = _optimizer(groups, config, learning_rate(config, global_batch))
    scheduler = _EpochwiseCosine(
        optimizer,
        steps_per_epoch=steps_per_epoch if config.interval == "epoch" else 1,
        t_initial=(epochs - config.cooldown_epochs) * steps_per_epoch,
        lr_min=config.min_lr * scale,
        warmup_t=round(config.warmup_epochs * steps_per_epoch),
        warmup_lr_init=config.warmup_lr * scale,
        t_in_epochs=False,
    )
    scheduler.step_update(0)  # without a warm-up timm leaves the first step's rate unscaled
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}
