"""Predictions of trained models: classification and segmentation of images."""

from volo.inference.predictor import Prediction, Predictor
from volo.inference.segmenter import Segmentation, Segmenter

__all__ = ["Prediction", "Predictor", "Segmentation", "Segmenter"]
