"""VOLO models: their configurations, the network, and models by name."""

from volo.models.config import VARIANTS, VOLOConfig
from volo.models.factory import create_model, list_models, model_config
from volo.models.volo import VOLO, Features, Logits

__all__ = ["VARIANTS", "VOLO", "Features", "Logits", "VOLOConfig", "create_model", "list_models", "model_config"]
