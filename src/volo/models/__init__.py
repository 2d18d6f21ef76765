"""VOLO models: their configurations, the network, models by name, and their weights."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.deliverable import save_model
from volo.models.factory import create_model, list_models, model_config
from volo.models.loading import from_pretrained, load_model, task_of
from volo.models.published import WEIGHTS, PublishedWeights
from volo.models.segmentation import SegmentationConfig, SegmentationModel, create_segmenter
from volo.models.trained import TrainedModel
from volo.models.trained_segmenter import TrainedSegmenter, load_segmenter, save_segmenter
from volo.models.volo import VOLO, Features, Logits

__all__ = [
    "VARIANTS",
    "VOLO",
    "WEIGHTS",
    "Features",
    "Logits",
    "PublishedWeights",
    "SegmentationConfig",
    "SegmentationModel",
    "TrainedModel",
    "TrainedSegmenter",
    "VOLOConfig",
    "create_model",
    "create_segmenter",
    "from_pretrained",
    "list_models",
    "load_model",
    "load_segmenter",
    "model_config",
    "save_model",
    "save_segmenter",
    "task_of",
]
