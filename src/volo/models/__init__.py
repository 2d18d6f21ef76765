"""VOLO models: their configurations, the network, models by name, and their weights."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.deliverable import save_model
from volo.models.factory import create_model, list_models, model_config
from volo.models.loading import from_pretrained, load_model
from volo.models.published import WEIGHTS, PublishedWeights
from volo.models.trained import TrainedModel
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
    "from_pretrained",
    "list_models",
    "load_model",
    "model_config",
    "save_model",
]
