"""Using a trained segmentation model: images in, the class of every pixel out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import Colour
from volo.inference.devices import find_device
from volo.inference.inputs import ImageLike, check_finite, decoded, preprocessing_of
from volo.inference.mask_pictures import named_overlay, palette_picture
from volo.inference.sliding import Sliding, size_of, sliding_scores
from volo.models import load_segmenter


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        mask: (H, W) uint8, of the image's size: indices of classes.
        class_names: what they mean.
        class_colours: (red, green, blue) of every class, 0–255.
        shares: of every class, the share of the image's pixels, 0–1.
    """

    mask: np.ndarray
    class_names: tuple[str, ...]
    class_colours: tuple[Colour, ...]
    shares: tuple[float, ...]

    def picture(self) -> Image.Image:
        """The mask as a picture of mode ``P``: its values are the classes, its palette their colours."""
        return palette_picture(self.mask, self.class_colours)

    def overlay(self, image: Image.Image, *, opacity: float = 0.5) -> Image.Image:
        """The image that was segmented with the classes' colours over it and their names beside it, RGB.

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
        return named_overlay(image, self.mask, self.class_colours, self.class_names, opacity=opacity)


class Segmenter:
    """Segment images with a trained model.

    >>> segmenter = Segmenter("runs/streets")
    >>> segmenter("street.jpg").picture().save("mask.png")

    An image of any size is covered by windows; see :mod:`volo.inference.sliding`. Beside the decoded image and its mask
    one strip of windows is held in memory, for each view.

    Args:
        path: a run folder, or ``hf-hub:org/name``, of a segmentation model.
        device: where to compute; None takes an accelerator where there is one.
        window: side, or (height, width), of a window in pixels; None takes the size of the crops the model was trained
            on. A window as large as the image means the whole image at once.
        stride: from a window to the next, likewise; None takes two thirds of the window.
        scales: the image is looked at enlarged or made smaller by each of these factors, and the probabilities are
            averaged. They multiply the size that the model was trained at.
        flip: every view is looked at mirrored as well.
        batch_size: windows at a time.

    Attributes:
        model: the trained model, in evaluation mode, on ``device``.
        device: where the computing is done.
        class_names: what the outputs mean, in order.
        class_colours: (red, green, blue) of every class, 0–255.
        ignore_index: the value in masks of pixels without a class.
        preprocessing: what is done to an image's pixels first.
        short_side: the shorter side, in pixels, that images are brought to for the model; None leaves them as they are.
        sliding: windows and views.

    Raises:
        ValueError: there is no trained segmentation model, the device is unknown, or the windows leave pixels out.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        window: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        scales: Iterable[float] = (1.0,),
        flip: bool = False,
        batch_size: int = 4,
    ) -> None:
        self.device, self._source = find_device(device), path
        trained = load_segmenter(path)
        self.model = trained.model.to(self.device)
        self.class_names, self.class_colours = trained.class_names, trained.class_colours
        self.ignore_index, self.short_side = trained.ignore_index, trained.short_side
        self.preprocessing = preprocessing_of(trained.preprocessing, self.model.config.backbone.in_chans, path)
        window = _pair(self.preprocessing.size if window is None else window)
        self.sliding = Sliding(
            window=window,
            stride=_pair((max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3)) if stride is None else stride),
            scales=tuple(scales),
            flip=flip,
            batch_size=batch_size,
        )

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one image.

        Raises:
            volo.data.ImageError: a file that cannot be read. ValueError: an array or tensor of another form.
        """
        picture = decoded(image, self.preprocessing)
        mask, counts = np.empty(size_of(picture), dtype=np.uint8), np.zeros(len(self.class_names), dtype=np.int64)
        filled = 0
        for block in self._scores(picture):
            rows = block.argmax(dim=0).to(torch.uint8).cpu().numpy()
            mask[filled : filled + len(rows)] = rows
            counts += np.bincount(rows.ravel(), minlength=len(counts))
            filled += len(rows)
        return Segmentation(mask, self.class_names, self.class_colours, tuple((counts / mask.size).tolist()))

    def predict(self, images: Iterable[ImageLike]) -> Iterator[Segmentation]:
        """Segment images one after the other, each when its segmentation is wanted."""
        return map(self, images)

    def probabilities(self, image: ImageLike) -> Tensor:
        """Of every pixel and class, (K, H, W) float32 on the CPU: K times four bytes for each pixel."""
        averaged = len(self.sliding.scales) > 1 or self.sliding.flip
        blocks = (
            block if averaged else block.softmax(dim=0) for block in self._scores(decoded(image, self.preprocessing))
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
        logits: Tensor = self.model(self.preprocessing.normalize(windows.to(self.device)))
        check_finite(logits, self.model, self._source)
        return logits


def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else side
