"""VOLO models: their configurations, the network, and models by name."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.factory import create_model, list_models, model_config
from volo.models.volo import VOLO, Features, Logits
from volo.models.weights import TrainedModel, load_model, save_model

__all__ = [
    "VARIANTS",
    "VOLO",
    "Features",
    "Logits",
    "TrainedModel",
    "VOLOConfig",
    "create_model",
    "list_models",
    "load_model",
    "model_config",
    "save_model",
]
