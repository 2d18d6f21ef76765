"""Optimizer and learning-rate schedule, from timm.

Source: VOLO, arXiv:2106.13112, section 4.1.
"""

from itertools import accumulate
from typing import Any

import torch
from timm.optim import Muon
from timm.scheduler import CosineLRScheduler, PolyLRScheduler
from timm.scheduler.scheduler import Scheduler

from volo.models import VOLO, SegmentationModel, VOLOConfig
from volo.models.segmentation import BACKBONE, backbone_of
from volo.training.config import OptimConfig


def learning_rate(config: OptimConfig, global_batch: int) -> float:
    """The rate at the schedule's height, linear in the global batch where ``lr_batch`` says so."""
    return config.lr * _scale(config, global_batch)


def _scale(config: OptimConfig, global_batch: int) -> float:
    """What all rates are multiplied by."""
    return 1.0 if config.lr_batch is None else global_batch / config.lr_batch


def freeze_backbone(model: VOLO | SegmentationModel) -> None:
    """Leave what was not trained before alone to learn: the two heads, or what a segmentation model adds to its VOLO.

    All else keeps its weights, in evaluation mode.
    """
    if isinstance(model, SegmentationModel):
        backbone_of(model).requires_grad_(False).eval()
        return
    model.requires_grad_(False).eval()
    for head in (model.head, model.aux_head):
        assert head is not None  # a classifier has both
        head.requires_grad_(True).train()


def layer_of(name: str, config: VOLOConfig) -> int:
    """The layer that the parameter ``name`` belongs to, counted from 0, the stem.

    Every block is a layer, and so are the downsampling with the position embedding, and the heads with their norm, or
    all that a segmentation model adds to its VOLO.
    """
    outlookers, *transformers = config.depths
    starts = list(accumulate((outlookers, 1, *transformers), initial=1))  # of network.0 to network.4 and post_network
    match name.removeprefix(BACKBONE).split("."):
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


def parameter_groups(model: VOLO | SegmentationModel, config: OptimConfig) -> list[dict[str, Any]]:
    """What is to be moved: groups of one weight decay and one ``lr_scale`` (by which timm's schedules multiply).

    Biases, norms, ``pos_embed`` and ``cls_token`` do not decay. The first group has the whole rate.
    """
    architecture = backbone_of(model).config
    # Without class attention the layer that comes after the last block is where that would begin.
    last = layer_of("head.weight" if isinstance(model, VOLO) else "cls_token", architecture)
    groups: dict[tuple[float, bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** max(0, last - layer_of(name, architecture))
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


def _schedule(kind: type[Scheduler], steps_per_epoch: int, *arguments: Any, **options: Any) -> Scheduler:
    """A schedule over steps whose rate stays, ``steps_per_epoch`` long, what it is at the first of them."""

    class Epochwise(kind):  # type: ignore[misc, valid-type]
        def _get_lr(self, t: int) -> list[float]:
            return super()._get_lr(t - t % steps_per_epoch)

    return Epochwise(*arguments, **options)


def configure_optimizers(
    model: VOLO | SegmentationModel, config: OptimConfig, *, epochs: int, steps_per_epoch: int, global_batch: int
) -> dict[str, Any]:
    """The optimizer with the paper's parameter groups, and a schedule to be stepped after every optimizer step.

    The fall spans all epochs but the cool-down, the warm-up being the beginning of it. The whole curve scales with
    the global batch.

    Raises:
        ValueError: the steps of warm-up leave no others.
    """
    scale = _scale(config, global_batch)
    groups = parameter_groups(model, config)
    optimizer = _optimizer(groups, config, learning_rate(config, global_batch))
    steps = (epochs - config.cooldown_epochs) * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch) if config.warmup_steps is None else config.warmup_steps
    if config.warmup_steps is not None and warmup >= steps:
        raise ValueError(
            f"optim.warmup_steps {warmup} leaves nothing of {steps} steps ({epochs - config.cooldown_epochs} epochs of "
            f"{steps_per_epoch}); lower it, or raise epochs"
        )
    poly = config.schedule == "poly"
    scheduler = _schedule(
        PolyLRScheduler if poly else CosineLRScheduler,
        steps_per_epoch if config.interval == "epoch" else 1,
        optimizer,
        t_initial=steps,
        lr_min=config.min_lr * scale,
        warmup_t=warmup,
        warmup_lr_init=config.warmup_lr * scale,
        t_in_epochs=False,
        **({"power": 1.0} if poly else {}),
    )
    scheduler.step_update(0)  # without a warm-up timm leaves the first step's rate unscaled
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}
