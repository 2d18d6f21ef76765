"""Resizing and cropping inside a graph, with Pillow's result.

A resize with antialiasing is a product with two matrices of weights, one for the rows and one for the columns. The
graph computes these matrices for the rows and columns that the crop keeps, and needs no special operator. ONNX's
``Resize`` cannot be used: OpenVINO accepts its attribute ``antialias``, but ignores it.

Shape letters: B batch, H W photo, C channels, h w crop.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from volo.data import Preprocessing


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic kernel with a = -1/2, as in Pillow; PyTorch uses -3/4 without antialiasing."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


#: Pillow's name of a filter → its weight at a distance. Distances are in pixels of the smaller of the two images.
_FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}


class PhotoCrop(nn.Module):
    """Resize and crop photos as :meth:`Preprocessing.pixels` does, but without rounding.

    It maps photos (B, H, W, C) uint8 to (B, C, h, w) float32, 0–255.

    Args:
        preprocessing: the model's preprocessing.

    Raises:
        ValueError: The filter is neither bilinear nor bicubic, the crop needs padding, or the images have a
            transparency channel.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        if preprocessing.interpolation not in _FILTERS:
            raise ValueError(
                f"an exported file can resize images with {' or '.join(_FILTERS)} interpolation, not with "
                f"{preprocessing.interpolation}: omit --include-resize"
            )
        if preprocessing.crop_pct > 1 or preprocessing.channels == 4:
            task = "pad images (crop_pct above 1)" if preprocessing.crop_pct > 1 else "resize images with transparency"
            raise ValueError(f"an exported file cannot {task}: omit --include-resize")
        self.filter, self.size = _FILTERS[preprocessing.interpolation], preprocessing.size
        self.cover = tuple(int(side / preprocessing.crop_pct) for side in preprocessing.size)

    def forward(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[1:3]
        high, wide = self.cover
        # Preprocessing.crop resizes the photo so that one side equals that of ``cover`` and the other one, scaled in
        # proportion, is at least that long. Which side it is depends on the photo, and a graph of any size cannot
        # branch. The maximum needs no branch: for the side that equals that of ``cover``, it picks this length.
        rows = self._weights(height, _larger(high, wide * height // width), self.size[0])
        columns = self._weights(width, _larger(wide, high * width // height), self.size[1])
        across = (photos.permute(0, 3, 1, 2).float() @ columns.T).clamp(
            0, 255
        )  # Pillow clamps between the two steps, too
        return (rows @ across).clamp(0, 255)

    def _weights(self, length: int, resized: int, kept: int) -> Tensor:
        """Return the weights (kept, length) of a photo's pixels for the pixels that the center crop keeps.

        Args:
            length: pixels of a side of the photo.
            resized: pixels of the side after resizing.
            kept: pixels of the side after cropping.
        """
        left = resized - kept
        first = (left + left // 2 % 2) // 2  # left / 2, a half rounded to even
        one = torch.ones(())
        step = one * length / resized
        center = (torch.arange(kept) + first + 0.5) * step
        distance = ((torch.arange(length) + 0.5) - center[:, None]).abs() / step.clamp(min=1)
        weights = self.filter(distance)
        return weights / weights.sum(dim=1, keepdim=True)


def _larger(one: int, other: int) -> int:
    """Return the maximum of two sides, which may be symbolic integers of the tracer."""
    return torch.sym_max(one, other)  # type: ignore[return-value]  # sym_max is not annotated as int
