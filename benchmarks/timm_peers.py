"""Networks of timm for images of 32 pixels, and the task that trains them as VOLO is trained.

The ResNets are registered with timm, so that what goes by timm's names, teachers of token labels among it, knows them;
importing this file does so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from volo.data import IMAGENET_MEAN, IMAGENET_STD, Batch
from volo.tasks.classification import ClassificationTask
from volo.training.run import Run

_CFG = {
    "num_classes": 10, "input_size": (3, 32, 32), "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
    "interpolation": "bicubic", "first_conv": "conv1", "classifier": "fc",
}  # fmt: skip
default_cfgs = generate_default_cfgs({"resnet18_half_32": _CFG, "resnet18_half_32_dense": _CFG})


@register_model
def resnet18_half_32(pretrained: bool = False, **options: Any) -> ResNet:
    """ResNet-18 of half the channels, with the stem that is usual for 32 pixels: one 3×3 convolution, no pooling."""
    return _resnet("resnet18_half_32", pretrained, **options)


@register_model
def resnet18_half_32_dense(pretrained: bool = False, **options: Any) -> ResNet:
    """Build the same network with a dilated last stage: its map is 8×8 in place of 4×4, and the weights fit both.

    Every other place of every other row is exactly what the network was trained with.
    """
    # timm counts the stride of its own stem, four times ours.
    return _resnet("resnet18_half_32_dense", pretrained, output_stride=16, **options)


def _resnet(name: str, pretrained: bool, **options: Any) -> ResNet:
    shape = {"block": BasicBlock, "layers": (2, 2, 2, 2), "channels": (32, 64, 128, 256)}
    model = build_model_with_cfg(ResNet, name, pretrained, **shape, **options)
    model.conv1 = nn.Conv2d(model.conv1.in_channels, model.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A network beside VOLO, and what it learns well with in few epochs: Muon, as VOLO does.

    Attributes:
        name: of timm.
        options: of ``timm.create_model``.
        lr: the learning rate at its height, for batches of 128.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lr: float


RESNET = Baseline(name="resnet18_half_32", lr=4e-3)
VIT = Baseline(name="vit_tiny_patch16_224", options={"img_size": 32, "patch_size": 4, "depth": 9}, lr=3e-3)


class BaselineTask(ClassificationTask):
    """A classifier of timm that learns the images' labels; everything but the loss is as in VOLO's training."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.erase.device = batch.images.device
        logits = self.model(self.erase(self.preprocessing.normalize(batch.images)))
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.loss.label_smoothing)


def train_baseline(run: Run, baseline: Baseline) -> None:
    """Let ``run`` train a baseline in place of its VOLO, with Muon and the baseline's own rate and schedule."""
    config = run.config

    def configure(model: nn.Module) -> dict[str, Any]:
        optim, steps = config.optim, run.data.steps_per_epoch
        optimizer = create_optimizer_v2(model, opt="nmuon", lr=optim.lr, weight_decay=optim.weight_decay)
        scheduler = CosineLRScheduler(
            optimizer,
            t_initial=config.epochs * steps,
            lr_min=optim.min_lr,
            warmup_t=round(optim.warmup_epochs * steps),
            warmup_lr_init=optim.warmup_lr,
            t_in_epochs=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = timm.create_model(baseline.name, num_classes=len(run.job.class_names), **baseline.options)
    for module in model.modules():
        if hasattr(module, "fused_attn"):  # VOLO too does without that kernel for few tokens: it learns slowly on a CPU
            module.fused_attn = False
    if config.compile:
        model.compile()
    model.config = SimpleNamespace(num_classes=model.num_classes)  # where the task looks for it
    run.task = BaselineTask(
        model.to(memory_format=torch.channels_last),
        preprocessing=run.task.preprocessing,
        loss=config.loss,
        erasing=config.augment.erasing,
        seed=config.seed,
        configure=configure,
    )
