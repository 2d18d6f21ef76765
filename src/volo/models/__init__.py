"""VOLO models: their configurations, the network, models by name, and their weights."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.deliverable import TrainedModel, save_model
from volo.models.factory import create_model, list_models, model_config
from volo.models.loading import load_model
from volo.models.published import WEIGHTS, PublishedWeights
from volo.models.volo import VOLO, Features, Logits

__all__ = [
    "VARIANTS",
    "VOLO",
    "WEIGHTS",
    "Features",
    "Logits",
    "PublishedWeights",
    "TrainedModel",
    "VOLOConfig",
    "create_model",
    "list_models",
    "load_model",
    "model_config",
    "save_model",
]
