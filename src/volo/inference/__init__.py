"""Using and judging trained models."""

from volo.inference.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
