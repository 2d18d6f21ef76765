"""Using a trained segmentation model: images in, the class of every pixel out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import Color
from volo.fused.optimize import optimize_for_inference
from volo.inference.image_inputs import ImageLike, check_finite, preprocessing_of, to_model_image
from volo.inference.mask_pictures import named_overlay, palette_picture
from volo.inference.sliding import Sliding, size_of, sliding_scores
from volo.models import SegmentationModel, load_segmenter
from volo.models.weights.model_folder import SEGMENTATION
from volo.runtime.devices import find_device
from volo.runtime.forward import ExportedModel, ModuleForward, open_exported


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        mask: (H, W) uint8, of the image's size: indices of classes.
        class_names: what they mean.
        class_colors: (red, green, blue) of every class, 0–255.
        shares: of every class, the share of the image's pixels, 0–1.
    """

    mask: np.ndarray
    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    shares: tuple[float, ...]

    def to_pil(self) -> Image.Image:
        """The mask as a picture of mode ``P``: its values are the classes, its palette their colors."""
        return palette_picture(self.mask, self.class_colors)

    def overlay(self, image: Image.Image, *, opacity: float = 0.5) -> Image.Image:
        """The image that was segmented with the classes' colors over it and their names beside it, RGB.

        Raises:
            ValueError: the image is of another size than the mask, or ``opacity`` not within 0–1.
        """
        if image.size != self.mask.shape[::-1]:
            raise ValueError(
                f"the overlay's image must be {self.mask.shape[1]}×{self.mask.shape[0]} as the mask is, "
                f"not {image.width}×{image.height}"
            )
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity must be 0 to 1, not {opacity}")
        return named_overlay(image, self.mask, self.class_colors, self.class_names, opacity=opacity)


class Segmenter:
    """Segment images with a trained model.

    >>> segmenter = Segmenter("runs/streets")
    >>> segmenter("street.jpg").to_pil().save("mask.png")

    An image of any size is covered by windows; see :mod:`volo.inference.sliding`. Beside the decoded image and its mask
    one strip of windows is held in memory, for each view.

    Args:
        path: a run folder, or ``hf-hub:org/name``, of a segmentation model; or a file that :func:`volo.export_model`
            wrote of one, or such a file opened.
        device: where to compute; None takes an accelerator where there is one. Exported files run on the CPU.
        window: side, or (height, width), of a window in pixels; None takes the size of the crops the model was trained
            on, or of an exported file's images. A window as large as the image means the whole image at once. A file of
            images of one size takes no other.
        stride: from a window to the next, likewise; None takes two thirds of the window.
        scales: the image is looked at enlarged or made smaller by each of these factors, and the probabilities are
            averaged. They multiply the size that the model was trained at.
        flip: every view is looked at mirrored as well.
        batch_size: windows at a time.
        threads: to compute with on the CPU; None leaves it to the runtime.
        runtime: pytorch or compile; of an exported file one that takes its kind. None takes the usual one.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``; None of an exported file. Images
            are segmented by a copy of it that :func:`volo.optimize_for_inference` made.
        device: where the computing is done.
        class_names: what the outputs mean, in order.
        class_colors: (red, green, blue) of every class, 0–255.
        ignore_index: the value in masks of pixels without a class.
        preprocessing: what is done to an image's pixels first.
        short_side: the shorter side, in pixels, that images are brought to for the model; None leaves them as they are.
        sliding: windows and views.

    Raises:
        ValueError: there is no trained segmentation model, the device or runtime is unknown or not for it, or the
            windows leave pixels out.
    """

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
    ) -> None:
        self._source = path
        file = open_exported(path, device=device, threads=threads, runtime=runtime)
        if file is None:
            assert not isinstance(path, ExportedModel)
            self._open_trained(path, device, threads, compile=runtime == "compile")
        else:
            self._use(file)
        window = _pair(self.preprocessing.size if window is None else window)
        if file is not None and not file.info.any_size and window != self.preprocessing.size:
            (height, width), (other_height, other_width) = self.preprocessing.size, window
            raise ValueError(
                f"{path} takes windows of {height}x{width} pixels alone, not of {other_height}x{other_width}: leave "
                "out the window, or export the model with --dynamic size"
            )
        self.sliding = Sliding(
            window=window,
            stride=_pair((max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3)) if stride is None else stride),
            scales=tuple(scales),
            flip=flip,
            batch_size=batch_size,
        )

    def _open_trained(
        self, path: str | Path, device: str | torch.device | None, threads: int | None, *, compile: bool
    ) -> None:
        self.device = find_device(device)
        trained = load_segmenter(path)
        self.model = trained.model.to(self.device)
        self.class_names, self.class_colors = trained.class_names, trained.class_colors
        self.ignore_index, self.short_side = trained.ignore_index, trained.short_side
        self.preprocessing = preprocessing_of(trained.preprocessing, self.model.config.backbone.in_chans, path)
        fast = optimize_for_inference(self.model, compile=compile)
        self._forward: Callable[[Tensor], Tensor] = ModuleForward(
            fast, self.preprocessing, device=self.device, threads=threads
        )

    def _use(self, file: ExportedModel) -> None:
        file.check_task(SEGMENTATION, "Segmenter")
        said = file.info
        assert said.class_colors is not None
        assert said.ignore_index is not None
        self.device, self.model, self._forward = torch.device("cpu"), None, file
        self.class_names, self.class_colors = said.class_names, said.class_colors
        self.ignore_index, self.short_side, self.preprocessing = said.ignore_index, said.short_side, said.preprocessing

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one image.

        Raises:
            volo.data.ImageError: a file that cannot be read. ValueError: an array or tensor of another form.
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
        """Segment images one after the other, each when its segmentation is wanted."""
        return map(self, images)

    def probabilities(self, image: ImageLike) -> Tensor:
        """Of every pixel and class, (K, H, W) float32 on the CPU: K times four bytes for each pixel."""
        averaged = len(self.sliding.scales) > 1 or self.sliding.flip
        blocks = (
            block if averaged else block.softmax(dim=0)
            for block in self._scores(to_model_image(image, self.preprocessing))
        )
        return torch.cat([block.cpu() for block in blocks], dim=1)

    def _scores(self, picture: Image.Image | np.ndarray) -> Iterator[Tensor]:
        """Logits or averaged probabilities (K, rows, W), from the top."""
        usual = 1.0 if self.short_side is None else self.short_side / min(size_of(picture))
        return sliding_scores(
            picture,
            self._logits,
            replace(self.sliding, scales=tuple(usual * scale for scale in self.sliding.scales)),
            classes=len(self.class_names),
            interpolation=Image.Resampling[self.preprocessing.interpolation.upper()],
        )

    @torch.no_grad()
    def _logits(self, windows: Tensor) -> Tensor:
        """(B, C, h, w) uint8 to logits (B, K, h, w)."""
        logits = self._forward(windows)
        check_finite(logits, self.model, self._source)
        return logits


def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else side
