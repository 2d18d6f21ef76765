"""VOLO, the Vision Outlooker, in PyTorch: training, evaluation, inference and export."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from volo.extras import missing_extra
from volo.version import __version__

if TYPE_CHECKING:
    from volo.evaluation.classification import Evaluation, evaluate
    from volo.evaluation.segmentation import SegmentationEvaluation, evaluate_segmentation
    from volo.export.pipeline import export_model
    from volo.fused.optimize import optimize_for_inference
    from volo.inference import Prediction, Predictor, Segmentation, Segmenter
    from volo.models import (
        VOLO,
        SegmentationModel,
        TrainedModel,
        TrainedSegmenter,
        VOLOConfig,
        create_model,
        create_segmenter,
        from_pretrained,
        list_models,
        load_model,
        load_segmenter,
    )
    from volo.models.smp_registry import register_with_smp
    from volo.models.timm_registry import register_with_timm
    from volo.ops import outlook_attention
    from volo.training.config import TrainConfig
    from volo.training.run import TrainResult, resume, train
    from volo.training.run_images import held_out_images

#: Public name → module that defines it. The module is imported when the name is first used, so ``import volo`` is fast.
_HOMES = {
    "VOLO": "volo.models",
    "VOLOConfig": "volo.models",
    "SegmentationModel": "volo.models",
    "TrainedModel": "volo.models",
    "TrainedSegmenter": "volo.models",
    "create_model": "volo.models",
    "create_segmenter": "volo.models",
    "from_pretrained": "volo.models",
    "list_models": "volo.models",
    "load_model": "volo.models",
    "load_segmenter": "volo.models",
    "outlook_attention": "volo.ops",
    "register_with_smp": "volo.models.smp_registry",
    "register_with_timm": "volo.models.timm_registry",
    "Prediction": "volo.inference",
    "Predictor": "volo.inference",
    "Segmentation": "volo.inference",
    "Segmenter": "volo.inference",
    "Evaluation": "volo.evaluation.classification",
    "evaluate": "volo.evaluation.classification",
    "SegmentationEvaluation": "volo.evaluation.segmentation",
    "evaluate_segmentation": "volo.evaluation.segmentation",
    "export_model": "volo.export.pipeline",
    "optimize_for_inference": "volo.fused.optimize",
    "TrainConfig": "volo.training.config",
    "TrainResult": "volo.training.run",
    "held_out_images": "volo.training.run_images",
    "resume": "volo.training.run",
    "train": "volo.training.run",
}

__all__ = [
    "VOLO",
    "Evaluation",
    "Prediction",
    "Predictor",
    "Segmentation",
    "SegmentationEvaluation",
    "SegmentationModel",
    "Segmenter",
    "TrainConfig",
    "TrainResult",
    "TrainedModel",
    "TrainedSegmenter",
    "VOLOConfig",
    "__version__",
    "create_model",
    "create_segmenter",
    "evaluate",
    "evaluate_segmentation",
    "export_model",
    "from_pretrained",
    "held_out_images",
    "list_models",
    "load_model",
    "load_segmenter",
    "optimize_for_inference",
    "outlook_attention",
    "register_with_smp",
    "register_with_timm",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'volo' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        hint = missing_extra(error)
        if hint is None:
            raise
        raise ModuleNotFoundError(f"volo.{name}: {hint}", name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
