"""Networks of timm for images of 32 pixels, and the task that trains them as VOLO is trained.

They are registered with timm, so that ``timm.create_model`` and what goes by timm's names (teachers of token labels
among it) know them. Importing this file does so.
"""

from types import SimpleNamespace
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from volo.data import IMAGENET_MEAN, IMAGENET_STD, Batch
from volo.tasks.classification import ClassificationTask
from volo.training.run import Run

RESNET, DENSE_RESNET, VIT = "resnet18_half_32", "resnet18_half_32_dense", "vit_tiny_depth9_patch4_32"
#: what each learns best with; rates and decays are the run's.
OPTIMIZERS = {RESNET: "sgd", VIT: "adamw"}

default_cfgs = generate_default_cfgs(
    {
        name: {
            "input_size": (3, 32, 32), "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "num_classes": 10,
            "interpolation": "bicubic", "first_conv": first, "classifier": last,
        }
        for name, first, last in (
            (RESNET, "conv1", "fc"), (DENSE_RESNET, "conv1", "fc"), (VIT, "patch_embed.proj", "head")
        )
    }
)  # fmt: skip


def _resnet(name: str, **options: Any) -> ResNet:
    """ResNet-18 of half the channels, with the stem that is usual for 32 pixels: one 3×3 convolution, no pooling."""
    options = {"block": BasicBlock, "layers": (2, 2, 2, 2), "channels": (32, 64, 128, 256), **options}
    model = build_model_with_cfg(ResNet, name, **options)
    model.conv1 = nn.Conv2d(model.conv1.in_channels, model.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


@register_model
def resnet18_half_32(pretrained: bool = False, **options: Any) -> ResNet:
    """2.81 M parameters; a map of 4×4."""
    return _resnet(RESNET, pretrained=pretrained, **options)


@register_model
def resnet18_half_32_dense(pretrained: bool = False, **options: Any) -> ResNet:
    """The same network and weights, read at 8×8 places: a dilated last stage in the place of its stride.

    Every other place of every other row is exactly the map of 4×4.
    """
    # timm counts the stride of its own stem, four times ours.
    return _resnet(DENSE_RESNET, pretrained=pretrained, output_stride=16, **options)


@register_model
def vit_tiny_depth9_patch4_32(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """ViT-Ti of 9 blocks on patches of 4 pixels: 4.0 M parameters."""
    shape = {"img_size": 32, "patch_size": 4, "embed_dim": 192, "depth": 9, "num_heads": 3}
    return build_model_with_cfg(VisionTransformer, VIT, pretrained, **{**shape, **options})


class PeerTask(ClassificationTask):
    """A classifier of timm that learns the images' labels; everything but the loss is VOLO's training."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.erase.device = batch.images.device
        logits = self.model(self.erase(self.preprocessing.normalize(batch.images)))
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.loss.label_smoothing)


def peer(name: str, run: Run) -> PeerTask:
    """What ``run`` is to train in the place of its VOLO: the network of that name, by the run's own settings."""
    config = run.config
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = timm.create_model(name, num_classes=len(run.class_names))
    model.config = SimpleNamespace(num_classes=len(run.class_names))  # where a task looks for it

    def configure(model: nn.Module) -> dict[str, Any]:
        optim, steps = config.optim, run.data.steps_per_epoch
        optimizer = create_optimizer_v2(model, opt=OPTIMIZERS[name], lr=optim.lr, weight_decay=optim.weight_decay)
        scheduler = CosineLRScheduler(
            optimizer,
            t_initial=config.epochs * steps,
            lr_min=optim.min_lr,
            warmup_t=round(optim.warmup_epochs * steps),
            warmup_lr_init=optim.warmup_lr,
            t_in_epochs=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}

    return PeerTask(
        model.to(memory_format=torch.channels_last),
        preprocessing=run.preprocessing,
        loss=config.loss,
        erasing=config.augment.erasing,
        seed=config.seed,
        configure=configure,
    )
