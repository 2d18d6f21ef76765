"""Classification of images with a trained model."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data.images import Shrink
from volo.data.preprocessing import as_array
from volo.data.read_notes import ReadNote, notes_of
from volo.inference.base import ModelRunner
from volo.inference.image_inputs import ImageLike, check_finite, to_model_image
from volo.inference.prefetch import PixelGate, map_in_threads
from volo.models import VOLO, TrainedModel, load_model
from volo.models.weights.model_folder import CLASSIFICATION
from volo.runtime.export_info import ExportInfo
from volo.runtime.forward import ExportedModel


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image, best first.

    Attributes:
        names: class names.
        indices: class indices.
        probabilities: probabilities, 0–1, from a softmax over all classes.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def name(self) -> str:
        """The most likely class."""
        return self.names[0]

    @property
    def probability(self) -> float:
        """The probability of the most likely class, 0–1."""
        return self.probabilities[0]


class Predictor(ModelRunner[TrainedModel]):
    """Classify images with a trained model.

    >>> predictor = Predictor("runs/pets")
    >>> predictor("photo.jpg").name

    Args:
        path: a run folder; or weights in any form that :func:`volo.load_model` accepts: a file of timm or of the
            authors, ``hf-hub:org/name``, the name of published or shipped weights; or a file that
            :func:`volo.export_model` wrote, as a path or opened.
        device: device that computes; None selects an accelerator if there is one. Exported files run on the CPU.
        threads: number of CPU threads; None keeps the runtime's default.
        runtime: pytorch or compile; for an exported file, a runtime of its format. None selects the default.
        trust: let an exported ``.pt2`` file run code that is in it. AOTInductor's packages are machine code and need
            this; set it only for files from a source that you trust.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``; None for an exported file.
            Predictions are computed by a copy that :func:`volo.optimize_for_inference` made.
        device: device that computes.
        class_names: names of the classes, in the order of the outputs.
        preprocessing: preprocessing of images for the model.
        takes_photos: True for an exported file that resizes and crops images itself.

    Raises:
        ValueError: There is no trained model, it has no heads, or the device or runtime is unknown or does not fit.
    """

    _task = CLASSIFICATION
    model: VOLO | None

    def __init__(
        self,
        path: str | Path | ExportedModel,
        *,
        device: str | torch.device | None = None,
        threads: int | None = None,
        runtime: str | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__(path, device=device, threads=threads, runtime=runtime, trust=trust)
        self.takes_photos = isinstance(self._description, ExportInfo) and self._description.include_resize

    @property
    def preprocess(self) -> Callable[[Image.Image | np.ndarray], np.ndarray]:
        """Function from a decoded image to the input of ``probabilities``, (H, W, channels) uint8, 0–255.

        It is not a method: processes that load images get it without a copy of the model.
        """
        return as_array if self.takes_photos else self.preprocessing.pixels

    def _load(self, path: str | Path) -> TrainedModel:
        trained = load_model(path)
        if not trained.model.num_classes:
            raise ValueError(f"the model in {path} has no heads, and so no classes; volo.load_model gives its features")
        return trained

    def __call__(self, image: ImageLike, *, top_k: int = 5) -> Prediction:
        """Classify one image and return its ``top_k`` most likely classes.

        Raises:
            volo.data.ImageError: The file cannot be read.
            ValueError: The array or tensor has another shape or dtype than documented, or ``top_k`` is below 1.
        """
        return next(self.predict([image], top_k=top_k))

    def predict(self, images: Iterable[ImageLike], *, top_k: int = 5, batch_size: int = 32) -> Iterator[Prediction]:
        """Classify images in batches, and yield the ``top_k`` most likely classes of each image in order.

        Images are taken from ``images`` only when they are needed, so it may be infinite. Files are decoded and
        cropped in threads, which bound the memory for whole images. On an accelerator, the next batch is decoded while
        the model computes; on the CPU, decoding and computing alternate. An exported file that resizes images itself
        gets one whole image at a time.

        Raises:
            volo.data.ImageError: A file cannot be read.
            ValueError: ``top_k`` or ``batch_size`` is below 1, or an image has another form than documented.
        """
        return self.predict_pixels(self._prepared(images, batch_size), top_k=top_k, batch_size=batch_size)

    def predict_pixels(
        self, pixels: Iterable[np.ndarray], *, top_k: int = 5, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """Classify images that are preprocessed, (H, W, channels) uint8 each, as ``preprocess`` returns them.

        Raises:
            ValueError: ``top_k`` or ``batch_size`` is below 1.
        """
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k and batch_size must be at least 1, not {top_k} and {batch_size}")
        remaining = iter(pixels)
        # Photos of different sizes cannot be stacked to a batch.
        while batch := list(islice(remaining, 1 if self.takes_photos else batch_size)):
            for probabilities in self.probabilities(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)):
                yield self._prediction(probabilities, top_k)

    def _prepared(self, images: Iterable[ImageLike], batch_size: int) -> Iterator[np.ndarray]:
        """Decode and crop images in threads; warn of images that were read although something is wrong with them."""
        count = 1 if self.takes_photos else batch_size
        prepare = partial(self._pixels, gate=PixelGate())
        for pixels, notes in map_in_threads(prepare, images, count=count, overlap=self.device.type != "cpu"):
            for note in notes:
                warnings.warn(f"an image was read {note.kind}", stacklevel=3)
            yield pixels

    def _pixels(self, image: ImageLike, *, gate: PixelGate) -> tuple[np.ndarray, tuple[ReadNote, ...]]:
        def read(wait: Shrink) -> tuple[np.ndarray, tuple[ReadNote, ...]]:
            picture = to_model_image(image, self.preprocessing, shrink=wait)
            return self.preprocess(picture), notes_of(picture) if isinstance(picture, Image.Image) else ()

        with gate.place() as wait:
            return read(wait)  # whose variables, among them the whole image, end here

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Compute probabilities (B, K) float32, 0–1, on the CPU, from preprocessed images (B, channels, H, W) uint8."""
        return self.logits(pixels).softmax(dim=-1)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Compute logits (B, K) float32, on the CPU, from preprocessed images (B, channels, H, W) uint8.

        If an exported file returns probabilities, their logarithms are returned, which are logits too.

        Raises:
            ValueError: A logit is not finite.
        """
        self._prepare_process()
        logits = self._forward(pixels).float().cpu()
        check_finite(logits, self._source)
        return logits

    def _prediction(self, probabilities: Tensor, top_k: int) -> Prediction:
        values, indices = probabilities.topk(min(top_k, len(self.class_names)))
        chosen = tuple(indices.tolist())
        return Prediction(tuple(self.class_names[i] for i in chosen), chosen, tuple(values.tolist()))
