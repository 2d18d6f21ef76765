"""Resizing and cropping inside a graph, as Pillow does it outside.

No runtime needs an operator for it: a resize with antialiasing is a product with a matrix of weights for the rows and
one for the columns, of which only those that the crop keeps are made. OpenVINO takes ONNX's ``Resize`` with
``antialias``, but does not do it.

Shape letters: B batch, H W photo, C channels, h w crop.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from volo.data import Preprocessing


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2, as in Pillow; PyTorch's without antialiasing has -3/4."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


#: Pillow's name of a filter → its weight at a distance, in pixels of the smaller of both images.
_FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}


class PhotoCrop(nn.Module):
    """Photos (B, H, W, C) uint8 to what :meth:`Preprocessing.pixels` makes of each, but unrounded.

    Gives (B, C, h, w) float32, 0–255.

    Raises:
        ValueError: the filter is another one, or the crop would be padded, or transparency is a channel.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        if preprocessing.interpolation not in _FILTERS:
            raise ValueError(
                f"images are resized inside a file by {' or '.join(_FILTERS)}, not by {preprocessing.interpolation}"
            )
        if preprocessing.crop_pct > 1 or preprocessing.channels == 4:
            what = (
                "padded (crop_pct above 1)" if preprocessing.crop_pct > 1 else "resized with transparency (4 channels)"
            )
            raise ValueError(f"images cannot be {what} inside a file: leave out --include-resize")
        self.filter, self.size = _FILTERS[preprocessing.interpolation], preprocessing.size
        self.cover = tuple(int(side / preprocessing.crop_pct) for side in preprocessing.size)

    def forward(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[1:3]
        high, wide = self.cover
        # The side that covers by more than it must; the other is what it must be. As Preprocessing.crop, without an if.
        rows = self._weights(height, _larger(high, wide * height // width), self.size[0])
        columns = self._weights(width, _larger(wide, high * width // height), self.size[1])
        across = (photos.permute(0, 3, 1, 2).float() @ columns.T).clamp(0, 255)  # as Pillow, between the steps
        return (rows @ across).clamp(0, 255)

    def _weights(self, length: int, resized: int, kept: int) -> Tensor:
        """(kept, length): of each pixel, for those of the resized side that the center crop keeps."""
        left = resized - kept
        first = (left + left // 2 % 2) // 2  # half of it, a half rounded to even
        one = torch.ones(())
        step = one * length / resized
        center = (torch.arange(kept) + first + 0.5) * step
        distance = ((torch.arange(length) + 0.5) - center[:, None]).abs() / step.clamp(min=1)
        weights = self.filter(distance)
        return weights / weights.sum(dim=1, keepdim=True)


def _larger(one: int, other: int) -> int:
    return torch.sym_max(one, other)  # type: ignore[return-value]  # the tracer's integers are not known to be int
