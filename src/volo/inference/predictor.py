"""Using a trained model: images in, names and probabilities out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from volo.inference.devices import find_device
from volo.inference.inputs import ImageLike, check_finite, decoded, preprocessing_of
from volo.inference.optimize import optimize_for_inference
from volo.models import load_model


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, the likeliest first.

    Attributes:
        names: class names.
        indices: their indices.
        probabilities: 0–1, softmax over all classes.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def name(self) -> str:
        """The likeliest class."""
        return self.names[0]

    @property
    def probability(self) -> float:
        """The probability of the likeliest class."""
        return self.probabilities[0]


class Predictor:
    """Classify images with a trained model.

    >>> predictor = Predictor("runs/pets")
    >>> predictor("photo.jpg").name

    Args:
        path: a run folder, or weights of any kind that :func:`volo.load_model` takes: a file of timm's or the
            authors', ``hf-hub:org/name``, the name of published weights.
        device: where to compute; None takes an accelerator where there is one.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``. Images are classified by a
            copy of it that :func:`volo.optimize_for_inference` made.
        device: where the computing is done.
        class_names: what the outputs mean, in order.
        preprocessing: what is done to an image first.

    Raises:
        ValueError: there is no trained model, it has no heads, or the device is unknown.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device | None = None) -> None:
        self.device, self._source = find_device(device), path
        trained = load_model(path)
        if not trained.model.num_classes:
            raise ValueError(f"the model in {path} has no heads, and so no classes; volo.load_model gives its features")
        self.model = trained.model.to(self.device)
        self._fast = optimize_for_inference(self.model)
        self.class_names = trained.class_names
        self.preprocessing = preprocessing_of(trained.preprocessing, self.model.config.in_chans, path)

    def __call__(self, image: ImageLike, *, top_k: int = 5) -> Prediction:
        """Classify one image.

        Raises:
            volo.data.ImageError: a file that cannot be read. ValueError: an array or tensor of another form.
        """
        return next(self.predict([image], top_k=top_k))

    def predict(self, images: Iterable[ImageLike], *, top_k: int = 5, batch_size: int = 32) -> Iterator[Prediction]:
        """Classify images one after the other, computing ``batch_size`` at a time.

        Raises:
            ValueError: ``top_k`` or ``batch_size`` is below 1, or an image is of another form than documented.
        """
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k and batch_size must be at least 1, not {top_k} and {batch_size}")
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            pixels = np.stack([self.preprocessing.pixels(decoded(image, self.preprocessing)) for image in batch])
            for probabilities in self.probabilities(torch.from_numpy(pixels).permute(0, 3, 1, 2)):
                yield self._prediction(probabilities, top_k)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Preprocessed images (B, channels, H, W) uint8 to probabilities (B, classes) float32 on the CPU."""
        return self.logits(pixels).softmax(dim=-1)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Preprocessed images (B, channels, H, W) uint8 to logits (B, classes) float32 on the CPU."""
        logits = self._fast(self.preprocessing.normalize(pixels.to(self.device))).float().cpu()
        check_finite(logits, self.model, self._source)
        return logits

    def _prediction(self, probabilities: Tensor, top_k: int) -> Prediction:
        values, indices = probabilities.topk(min(top_k, len(self.class_names)))
        chosen = tuple(indices.tolist())
        return Prediction(tuple(self.class_names[i] for i in chosen), chosen, tuple(values.tolist()))
