"""VOLO models: configurations, the network, models by name, and weights."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.factory import create_model, create_segmenter, list_models, model_config
from volo.models.segmentation import SegmentationConfig, SegmentationModel
from volo.models.volo import VOLO, Features, Logits
from volo.models.weights.load import from_pretrained, load_model, load_segmenter, task_of
from volo.models.weights.model_folder import save_model, save_segmenter
from volo.models.weights.published import WEIGHTS, PublishedWeights
from volo.models.weights.trained import TrainedModel, TrainedSegmenter

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
