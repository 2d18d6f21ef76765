"""Published accuracy, to plot over measured speed: of VOLO, and of a few well-known models of timm."""

from volo.bench.worker import TIMM
from volo.messages import nearest
from volo.models.weights.published import WEIGHTS

#: timm's name → (pixels, top-1 on ImageNet-1k's validation images in %). All were trained on ImageNet-1k only. Source:
#: https://github.com/huggingface/pytorch-image-models, results/results-imagenet.csv, commit 4e5207c7 (2025-10-30).
_TIMM = {
    "resnet50.a1_in1k": (224, 80.382),
    "deit3_small_patch16_224.fb_in1k": (224, 81.382),
    "swin_tiny_patch4_window7_224.ms_in1k": (224, 81.388),
    "convnext_tiny.fb_in1k": (224, 82.066),
    "convnext_small.fb_in1k": (224, 83.144),
    "swin_small_patch4_window7_224.ms_in1k": (224, 83.228),
    "maxvit_tiny_tf_224.in1k": (224, 83.426),
    "deit3_base_patch16_224.fb_in1k": (224, 83.800),
    "convnext_base.fb_in1k": (224, 83.838),
}

#: Name of a model in a benchmark → (pixels, top-1 in %); timm evaluated VOLO's weights, too.
TOP1: dict[str, tuple[int, float]] = {
    **{row.model: (row.size, row.top1) for row in WEIGHTS.values()},
    **{row.name: (row.size, row.top1) for row in WEIGHTS.values()},
    **{f"{TIMM}{row.model}": (row.size, row.top1) for row in WEIGHTS.values()},
    **{f"{TIMM}{name}": result for name, result in _TIMM.items()},
}

#: The models and the baselines that `volo bench --pareto` draws by default.
VOLOS = ("volo_d1_224", "volo_d2_224", "volo_d3_224", "volo_d1_384", "volo_d4_224", "volo_d5_224")
BASELINES = tuple(f"{TIMM}{name}" for name in _TIMM)


def published_top1(model: str) -> float:
    """Return the published top-1 accuracy in %, at the image size that the model is made for.

    Raises:
        ValueError: The accuracy of this model is not in ``TOP1``.
    """
    if model not in TOP1:
        raise ValueError(f"the published accuracy of {model!r} is not known{nearest(model, TOP1)}")
    return TOP1[model][1]
