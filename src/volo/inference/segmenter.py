"""Segmentation of images with a trained model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import MAX_PIXELS, Color, ImageError
from volo.inference.base import ModelRunner
from volo.inference.image_inputs import ImageLike, check_finite, to_model_image
from volo.inference.mask_pictures import named_overlay, palette_picture
from volo.inference.sliding import Sliding, size_of, sliding_scores
from volo.models import SegmentationModel, TrainedSegmenter, load_segmenter
from volo.models.weights.model_folder import SEGMENTATION
from volo.runtime.export_info import ExportInfo
from volo.runtime.forward import ExportedModel


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        mask: (H, W) uint8, class indices, at the image's size.
        class_names: names of the classes, in the order of their indices.
        class_colors: (red, green, blue) of each class, 0–255.
        shares: share of the image's pixels that each class covers, 0–1.
    """

    mask: np.ndarray
    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    shares: tuple[float, ...]

    def to_pil(self) -> Image.Image:
        """Return the mask as an image of mode ``P``: its values are the class indices, its palette their colors."""
        return palette_picture(self.mask, self.class_colors)

    def overlay(self, image: Image.Image, *, opacity: float = 0.5) -> Image.Image:
        """Return ``image`` with the colors of its classes on it and a legend beside it, RGB.

        Args:
            image: the image that was segmented.
            opacity: opacity of the colors, 0–1.

        Raises:
            ValueError: The image is of another size than the mask, or ``opacity`` is not within 0–1.
        """
        if image.size != self.mask.shape[::-1]:
            raise ValueError(
                f"the image must have the size of the mask, {self.mask.shape[1]}×{self.mask.shape[0]} pixels, "
                f"not {image.width}×{image.height}"
            )
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity must be 0 to 1, not {opacity}")
        return named_overlay(image, self.mask, self.class_colors, self.class_names, opacity=opacity)


class Segmenter(ModelRunner[TrainedSegmenter]):
    """Segment images with a trained model.

    >>> segmenter = Segmenter("runs/streets")
    >>> segmenter("street.jpg").to_pil().save("mask.png")

    An image of any size is covered by sliding windows, see :mod:`volo.inference.sliding`. Memory is needed for the
    decoded image, its mask, and one strip of windows for each view.

    Args:
        path: a run folder or ``hf-hub:org/name`` of a segmentation model; or a file that :func:`volo.export_model`
            wrote from one, as a path or opened.
        device: device that computes; None selects an accelerator if there is one. Exported files run on the CPU.
        window: side, or (height, width), of a window in pixels; None takes the size of the training crops, or the
            image size of an exported file. A window of the image's size or larger covers the whole image at once. A
            file that was exported for one image size accepts this size only.
        stride: distance from one window to the next in pixels, one number or (down, across); None takes two thirds of
            the window.
        scales: factors by which the image is resized; the probabilities of all scales are averaged. A factor of 1 is
            the image size that the model was trained for.
        flip: average with the probabilities of the mirrored image, at every scale.
        batch_size: number of windows in a batch.
        threads: number of CPU threads; None keeps the runtime's default.
        runtime: pytorch or compile; for an exported file, a runtime of its format. None selects the default.
        trust: let an exported ``.pt2`` file run code that is in it. AOTInductor's packages are machine code and need
            this; set it only for files from a source that you trust.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``; None for an exported file.
            Predictions are computed by a copy that :func:`volo.optimize_for_inference` made.
        device: device that computes.
        class_names: names of the classes, in the order of the outputs.
        class_colors: (red, green, blue) of each class, 0–255.
        ignore_index: mask value of pixels without a class.
        preprocessing: preprocessing of images for the model.
        short_side: the shorter side, in pixels, to which images are resized for the model; None keeps their size.
        sliding: windows and views.

    Raises:
        ValueError: There is no trained segmentation model, the device or runtime is unknown or does not fit, or the
            windows leave pixels out.
    """

    _task = SEGMENTATION
    model: SegmentationModel | None

    def __init__(
        self,
        path: str | Path | ExportedModel,
        *,
        device: str | torch.device | None = None,
        window: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        scales: Iterable[float] = (1.0,),
        flip: bool = False,
        batch_size: int = 4,
        threads: int | None = None,
        runtime: str | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__(path, device=device, threads=threads, runtime=runtime, trust=trust)
        description = self._description
        assert description.class_colors is not None
        assert description.ignore_index is not None
        self.class_colors, self.ignore_index = description.class_colors, description.ignore_index
        self.short_side = description.short_side
        window = _pair(self.preprocessing.size if window is None else window)
        fixed_size = isinstance(description, ExportInfo) and not description.any_size
        if fixed_size and window != self.preprocessing.size:
            (height, width), (other_height, other_width) = self.preprocessing.size, window
            raise ValueError(
                f"{path} takes only windows of {height}x{width} pixels, not of {other_height}x{other_width}: leave "
                "out the window, or export the model with --dynamic size"
            )
        self.sliding = Sliding(
            window=window,
            stride=_pair((max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3)) if stride is None else stride),
            scales=tuple(scales),
            flip=flip,
            batch_size=batch_size,
        )

    def _load(self, path: str | Path) -> TrainedSegmenter:
        return load_segmenter(path)

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one image.

        Raises:
            volo.data.ImageError: The file cannot be read, or the image is so long that it would become too large.
            ValueError: The array or tensor has another shape or dtype than documented.
        """
        picture = to_model_image(image, self.preprocessing)
        mask, counts = np.empty(size_of(picture), dtype=np.uint8), np.zeros(len(self.class_names), dtype=np.int64)
        filled = 0
        for block in self._scores(picture):
            rows = block.argmax(dim=0).to(torch.uint8).cpu().numpy()
            mask[filled : filled + len(rows)] = rows
            counts += np.bincount(rows.ravel(), minlength=len(counts))
            filled += len(rows)
        return Segmentation(mask, self.class_names, self.class_colors, tuple((counts / mask.size).tolist()))

    def predict(self, images: Iterable[ImageLike]) -> Iterator[Segmentation]:
        """Segment images one after the other; each image is taken when its result is requested."""
        return map(self, images)

    def probabilities(self, image: ImageLike) -> Tensor:
        """Return the probabilities (0–1) of all classes at every pixel, (K, H, W) float32 on the CPU.

        This needs 4 K bytes of memory for each pixel.
        """
        averaged = len(self.sliding.scales) > 1 or self.sliding.flip
        blocks = (
            block if averaged else block.softmax(dim=0)
            for block in self._scores(to_model_image(image, self.preprocessing))
        )
        return torch.cat([block.cpu() for block in blocks], dim=1)

    def _scores(self, picture: Image.Image | np.ndarray) -> Iterator[Tensor]:
        """Yield logits, or averaged probabilities if there are several views, in blocks (K, rows, W) from the top."""
        self._prepare_process()
        height, width = size_of(picture)
        base = 1.0 if self.short_side is None else self.short_side / min(height, width)
        if base > 1 and base * height * base * width > MAX_PIXELS:
            raise ImageError(
                f"an image of {width:,}×{height:,} pixels is too long: its shorter side would be enlarged to "
                f"{self.short_side:,} pixels, and the whole to more than {MAX_PIXELS:,}; cut it"
            )
        return sliding_scores(
            picture,
            self._logits,
            replace(self.sliding, scales=tuple(base * scale for scale in self.sliding.scales)),
            classes=len(self.class_names),
            interpolation=self.preprocessing.resampling,
        )

    @torch.no_grad()
    def _logits(self, windows: Tensor) -> Tensor:
        """Compute logits (B, K, h, w) of windows (B, C, h, w) uint8."""
        logits = self._forward(windows)
        check_finite(logits, self._source)
        return logits


def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else side
