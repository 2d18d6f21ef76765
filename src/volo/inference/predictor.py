"""Using a trained model: images in, names and probabilities out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data.preprocessing import as_array
from volo.fused.optimize import optimize_for_inference
from volo.inference.image_inputs import ImageLike, check_finite, preprocessing_of, to_model_image
from volo.inference.prefetch import map_in_threads
from volo.models import VOLO, load_model
from volo.models.weights.model_folder import CLASSIFICATION
from volo.runtime.devices import find_device
from volo.runtime.forward import ExportedModel, ModuleForward, open_exported


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
            authors', ``hf-hub:org/name``, the name of weights that are published or come with the package; or a
            file that :func:`volo.export_model` wrote, or such a file opened.
        device: where to compute; None takes an accelerator where there is one. Exported files run on the CPU.
        threads: to compute with on the CPU; None leaves it to the runtime.
        runtime: pytorch or compile; of an exported file one that takes its kind. None takes the usual one.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``; None of an exported file. Images
            are classified by a copy of it that :func:`volo.optimize_for_inference` made.
        device: where the computing is done.
        class_names: what the outputs mean, in order.
        preprocessing: what is done to an image first.
        preprocess: turns a decoded image into what ``probabilities`` takes, (H, W, channels) uint8, 0–255.
        takes_photos: an exported file resizes and crops them by itself.

    Raises:
        ValueError: there is no trained model, it has no heads, or the device or runtime is unknown or not for it.
    """

    model: VOLO | None

    def __init__(
        self,
        path: str | Path | ExportedModel,
        *,
        device: str | torch.device | None = None,
        threads: int | None = None,
        runtime: str | None = None,
    ) -> None:
        self._source, self.takes_photos = path, False
        file = open_exported(path, device=device, threads=threads, runtime=runtime)
        if file is None:
            assert not isinstance(path, ExportedModel)
            self._open_trained(path, device, threads, compile=runtime == "compile")
        else:
            file.check_task(CLASSIFICATION, "Predictor")
            self._forward: Callable[[Tensor], Tensor] = file
            self.device, self.model = torch.device("cpu"), None
            self.class_names, self.preprocessing = file.info.class_names, file.info.preprocessing
            self.takes_photos = file.info.include_resize
        # A plain function rather than a method: processes that load images get it without the model.
        self.preprocess: Callable[[Image.Image | np.ndarray], np.ndarray] = (
            as_array if self.takes_photos else self.preprocessing.pixels
        )

    def _open_trained(
        self, path: str | Path, device: str | torch.device | None, threads: int | None, *, compile: bool
    ) -> None:
        self.device = find_device(device)
        trained = load_model(path)
        if not trained.model.num_classes:
            raise ValueError(f"the model in {path} has no heads, and so no classes; volo.load_model gives its features")
        self.model = trained.model.to(self.device)
        self.class_names = trained.class_names
        self.preprocessing = preprocessing_of(trained.preprocessing, self.model.config.in_chans, path)
        fast = optimize_for_inference(self.model, compile=compile)
        self._forward = ModuleForward(fast, self.preprocessing, device=self.device, threads=threads)

    def __call__(self, image: ImageLike, *, top_k: int = 5) -> Prediction:
        """Classify one image.

        Raises:
            volo.data.ImageError: a file that cannot be read. ValueError: an array or tensor of another form.
        """
        return next(self.predict([image], top_k=top_k))

    def predict(self, images: Iterable[ImageLike], *, top_k: int = 5, batch_size: int = 32) -> Iterator[Prediction]:
        """Classify images one after the other, decoding and computing ``batch_size`` at a time.

        They are taken as they are needed, so there may be no end of them. Files are decoded in threads: before the
        model computes where it has the processor, and meanwhile where it has an accelerator.

        Raises:
            ValueError: ``top_k`` or ``batch_size`` is below 1, or an image is of another form than documented.
        """
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k and batch_size must be at least 1, not {top_k} and {batch_size}")
        prepared = map_in_threads(self._pixels, images, count=batch_size, overlap=self.device.type != "cpu")
        while batch := list(islice(prepared, batch_size)):
            for _, alike in groupby(batch, key=np.shape):  # more than one size only of photos
                for probabilities in self.probabilities(torch.from_numpy(np.stack(list(alike))).permute(0, 3, 1, 2)):
                    yield self._prediction(probabilities, top_k)

    def _pixels(self, image: ImageLike) -> np.ndarray:
        return self.preprocess(to_model_image(image, self.preprocessing))

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Images (B, channels, H, W) uint8, as ``preprocess`` gives them, to probabilities (B, classes), on the CPU."""
        return self.logits(pixels).softmax(dim=-1)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Images (B, channels, H, W) uint8, as ``preprocess`` gives them, to logits (B, classes) float32 on the CPU.

        Where an exported file gives probabilities, to their logarithms, which are logits too.
        """
        logits = self._forward(pixels).float().cpu()
        check_finite(logits, self.model, self._source)
        return logits

    def _prediction(self, probabilities: Tensor, top_k: int) -> Prediction:
        values, indices = probabilities.topk(min(top_k, len(self.class_names)))
        chosen = tuple(indices.tolist())
        return Prediction(tuple(self.class_names[i] for i in chosen), chosen, tuple(values.tolist()))
