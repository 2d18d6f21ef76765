"""Optimizer and learning-rate schedule, with timm's Muon and schedulers.

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
    """Return the peak learning rate: ``lr``, times global_batch / ``lr_batch`` if ``lr_batch`` is set."""
    return config.lr * _scale(config, global_batch)


def _scale(config: OptimConfig, global_batch: int) -> float:
    """Return the factor of all learning rates: global_batch / ``lr_batch``, or 1 if ``lr_batch`` is not set."""
    return 1.0 if config.lr_batch is None else global_batch / config.lr_batch


def freeze_backbone(model: VOLO | SegmentationModel) -> None:
    """Freeze the backbone: only a classifier's two heads, or all that a segmentation model adds to its VOLO, train.

    Frozen modules are in evaluation mode.
    """
    if isinstance(model, SegmentationModel):
        backbone_of(model).requires_grad_(False).eval()
        return
    model.requires_grad_(False).eval()
    for head in (model.head, model.aux_head):
        assert head is not None  # every classifier in training has both
        head.requires_grad_(True).train()


def layer_of(name: str, config: VOLOConfig) -> int:
    """Return the number of the layer to which the parameter ``name`` belongs; the stem is layer 0.

    Every block is a layer. The downsampling with the position embedding is one more, and the last layer is that of the
    heads with their norm, or all that a segmentation model adds to its VOLO.
    """
    outlookers, *transformers = config.depths
    starts = list(accumulate((outlookers, 1, *transformers), initial=1))  # first layers of network.0–4 and post_network
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
    """Return the trainable parameters in groups of equal weight decay and ``lr_scale``, timm's factor of the rate.

    Biases, norms, ``pos_embed`` and ``cls_token`` have no weight decay. The first group has the largest ``lr_scale``.
    """
    architecture = backbone_of(model).config
    # A segmentation model has no class attention: its last layer is the one where class attention would begin.
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
    """Return a schedule over steps whose rate changes only at every multiple of ``steps_per_epoch``."""

    class Epochwise(kind):  # type: ignore[misc, valid-type]
        def _get_lr(self, t: int) -> list[float]:
            return super()._get_lr(t - t % steps_per_epoch)

    return Epochwise(*arguments, **options)


def warmup_length(config: OptimConfig, *, epochs: int, steps_per_epoch: int) -> int:
    """Return the optimizer steps of the warm-up.

    Raises:
        ValueError: The warm-up leaves no steps for the decay.
    """
    steps = (epochs - config.cooldown_epochs) * steps_per_epoch
    given = config.warmup_steps
    warmup = round((config.warmup_epochs or 0.0) * steps_per_epoch) if given is None else given
    # A rate that changes with every epoch stays at its lowest for the whole of a begun epoch.
    lowest = -(-warmup // steps_per_epoch) * steps_per_epoch if config.interval == "epoch" else warmup
    if lowest and lowest >= steps:
        name = f"optim.warmup_epochs {config.warmup_epochs:g}" if given is None else f"optim.warmup_steps {given}"
        raise ValueError(
            f"{name} leaves nothing of {steps} steps ({epochs - config.cooldown_epochs} epochs of "
            f"{steps_per_epoch}); lower it, or raise epochs"
        )
    return warmup


def configure_optimizers(
    model: VOLO | SegmentationModel, config: OptimConfig, *, epochs: int, steps_per_epoch: int, global_batch: int
) -> dict[str, Any]:
    """Return the optimizer with the paper's parameter groups, and a schedule that is updated after every step.

    The decay curve spans all epochs except the cool-down; the warm-up replaces its beginning. If ``lr_batch`` is set,
    all rates are multiplied by global_batch / ``lr_batch``.

    Args:
        model: the model to train.
        config: settings of optimizer and schedule.
        epochs: all epochs of the run, warm-up and cool-down included.
        steps_per_epoch: optimizer steps in an epoch.
        global_batch: images in an optimizer step, over all processes.

    Returns:
        What Lightning expects of ``configure_optimizers``.

    Raises:
        ValueError: The warm-up leaves no steps for the decay.
    """
    scale = _scale(config, global_batch)
    groups = parameter_groups(model, config)
    optimizer = _optimizer(groups, config, learning_rate(config, global_batch))
    steps = (epochs - config.cooldown_epochs) * steps_per_epoch
    warmup = warmup_length(config, epochs=epochs, steps_per_epoch=steps_per_epoch)
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
    scheduler.step_update(0)  # without a warm-up, timm does not apply lr_scale to the first step
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}
