"""Optimizer and learning-rate schedule, from timm.

Source: VOLO, arXiv:2106.13112, section 4.1.
"""

from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler

from volo.models import VOLO
from volo.training.config import OptimConfig


def learning_rate(config: OptimConfig, global_batch: int) -> float:
    """The rate at the schedule's height: linear in the global batch where ``lr_batch`` says so."""
    return config.lr if config.lr_batch is None else config.lr * global_batch / config.lr_batch


def configure_optimizers(
    model: VOLO, config: OptimConfig, *, epochs: int, steps_per_epoch: int, global_batch: int
) -> dict[str, Any]:
    """AdamW with the paper's parameter groups, and a schedule to be stepped after every optimizer step.

    The cosine spans all epochs but the cool-down, the warm-up being the beginning of it.
    """
    groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list={"pos_embed", "cls_token"})
    optimizer = torch.optim.AdamW(groups, lr=learning_rate(config, global_batch), betas=config.betas, fused=True)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=(epochs - config.cooldown_epochs) * steps_per_epoch,
        lr_min=config.min_lr,
        warmup_t=round(config.warmup_epochs * steps_per_epoch),
        warmup_lr_init=config.warmup_lr,
        t_in_epochs=False,
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}
