"""Using a trained model: images in, names and probabilities out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import MODES, Preprocessing, read_image, upright
from volo.inference.devices import find_device
from volo.inference.optimize import optimize_for_inference
from volo.models import load_model

#: A file, a picture, an array (H, W) or (H, W, C) uint8 0–255, or a tensor (C, H, W) uint8 0–255; C is 1, 3 or 4, or
#: the number of the model's channels where that is another: such a model takes arrays and tensors alone.
ImageLike = str | Path | Image.Image | np.ndarray | Tensor


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
            authors', ``hf-hub:org/name``, the name of weights that are published or come with the package.
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
        try:
            self.preprocessing = Preprocessing.from_dict(trained.preprocessing)
        except TypeError as error:
            raise ValueError(f"the preprocessing described in {path} is not known to this volo: {error}") from error
        if self.preprocessing.channels != self.model.config.in_chans:
            raise ValueError(
                f"the model in {path} takes {self.model.config.in_chans} channels, "
                f"its preprocessing gives {self.preprocessing.channels}"
            )

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
            pixels = np.stack([self.preprocessing.pixels(self._decoded(image)) for image in batch])
            for probabilities in self.probabilities(torch.from_numpy(pixels).permute(0, 3, 1, 2)):
                yield self._prediction(probabilities, top_k)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Preprocessed images (B, channels, H, W) uint8 to probabilities (B, classes) float32 on the CPU."""
        return self.logits(pixels).softmax(dim=-1)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Preprocessed images (B, channels, H, W) uint8 to logits (B, classes) float32 on the CPU."""
        logits = self._fast(self.preprocessing.normalize(pixels.to(self.device))).float().cpu()
        if not logits.isfinite().all():
            bad = [name for name, weight in self.model.state_dict().items() if not weight.isfinite().all()]
            what = f"{bad[0]} and {len(bad) - 1} others are" if bad else "what they give is"
            raise ValueError(
                f"the weights of {self._source} cannot be used: {what} not finite; fetch or train them anew"
            )
        return logits

    def _prediction(self, probabilities: Tensor, top_k: int) -> Prediction:
        values, indices = probabilities.topk(min(top_k, len(self.class_names)))
        chosen = tuple(indices.tolist())
        return Prediction(tuple(self.class_names[i] for i in chosen), chosen, tuple(values.tolist()))

    def _decoded(self, image: ImageLike) -> Image.Image | np.ndarray:
        """The image in the model's channels; as an array where there are as many as no picture has."""
        channels, background = self.preprocessing.channels, self.preprocessing.background
        if isinstance(image, str | Path):
            return read_image(image, channels, background=background)
        if isinstance(image, Tensor):
            image = _channels_last(image, channels)
        if isinstance(image, np.ndarray):
            _check_array(image, channels)
            if channels not in MODES:
                return image
            image = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        if not isinstance(image, Image.Image):
            raise ValueError(f"an image must be a path, a PIL image, an array or a tensor, not {type(image).__name__}")
        return upright(image, channels, background)


def _channels_last(tensor: Tensor, channels: int) -> np.ndarray:
    allowed = _planes(channels)
    if tensor.ndim != 3 or tensor.shape[0] not in allowed or tensor.dtype != torch.uint8:
        raise ValueError(
            f"a tensor image must be ({_either(allowed)}, H, W) uint8, 0–255, not {tuple(tensor.shape)} {tensor.dtype}"
        )
    return tensor.permute(1, 2, 0).contiguous().cpu().numpy()


def _check_array(array: np.ndarray, channels: int) -> None:
    allowed = _planes(channels)
    grey = array.ndim == 2 and 1 in allowed
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in allowed)) or not array.size:
        raise ValueError(
            f"an array image must be {'(H, W) or ' if 1 in allowed else ''}(H, W, {_either(allowed)}) uint8, 0–255, "
            f"not {tuple(array.shape)} {array.dtype}"
        )


def _planes(channels: int) -> tuple[int, ...]:
    """How many channels an array may have for a model of ``channels``."""
    return tuple(MODES) if channels in MODES else (channels,)


def _either(numbers: tuple[int, ...]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
