"""Scores for every pixel of an image of any size, by windows that slide over it, a strip of windows at a time.

Windows overlap, and a pixel's logits are averaged over the windows that see it. What the next strip of windows will not
touch is finished and given away, so that one strip of logits is kept, however high the image. An image can be looked
at in several *views*, enlarged or made smaller and mirrored: each has its own windows and its own strip; its logits are
brought to the image's size, and the softmax of the views is averaged. That is how the field tests segmenters: logits
within a view, which has one calibration, probabilities between views, since those of another scale may be surer
without being better.

Shape letters: C channels, K classes, H W image, h w window or view.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from volo.data.preprocessing import as_array

#: Rows that are given away together: few, so that what is computed of them takes little beside the strip.
BLOCK = 32

#: Pixels (B, C, h, w) uint8, 0–255, channels-last in memory, to logits (B, K, h, w).
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """How an image is covered by windows, and in which views.

    Attributes:
        window: (height, width) of a window, pixels; a view that is smaller in a direction is covered by one.
        stride: (down, across) from a window to the next; the last one of a row ends where the view does.
        scales: of the views: factors of the image's sides.
        flip: every view is looked at mirrored as well.
        batch_size: windows at a time.
    """

    window: tuple[int, int]
    stride: tuple[int, int]
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        if len(self.window) != 2 or min(self.window) < 1:
            raise ValueError(f"window must be a height and a width in pixels, not {self.window!r}")
        if (
            len(self.stride) != 2
            or min(self.stride) < 1
            or any(step > side for step, side in zip(self.stride, self.window, strict=True))
        ):
            raise ValueError(
                f"stride must be 1 to the window's sides, {self.window[0]} down and {self.window[1]} across, so that "
                f"no pixel is left out, not {self.stride!r}"
            )
        if not self.scales or not all(0 < scale < float("inf") for scale in self.scales):
            raise ValueError(f"scales must be one factor or more, all positive, not {self.scales!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")


def sliding_scores(
    image: Image.Image | np.ndarray,
    forward: Forward,
    sliding: Sliding,
    *,
    classes: int,
    interpolation: Image.Resampling = Image.Resampling.BILINEAR,
) -> Iterator[Tensor]:
    """Scores of an image, block by block from the top, :data:`BLOCK` rows each but the last.

    Args:
        image: decoded, or an array (H, W, C) uint8.
        forward: the model.
        sliding: windows and views.
        classes: K.
        interpolation: resizes the image for views of other scales.

    Yields:
        (K, rows, W) float32 on the device of what ``forward`` gives: logits where there is one view, else
        probabilities. With one window over the whole image the logits are exactly those of ``forward``.
    """
    views = [
        _resized(
            _strips(_View(image, scale, interpolation), forward, sliding, classes=classes, mirrored=mirrored),
            _scaled(image, scale),
            size_of(image),
        )
        for scale in sliding.scales
        for mirrored in ((False, True) if sliding.flip else (False,))
    ]
    for blocks in zip(*views, strict=True):
        if len(blocks) == 1:
            yield blocks[0]
        else:
            mean = torch.zeros_like(blocks[0])
            for block in blocks:
                mean += block.softmax(dim=0)
            yield mean.div_(len(blocks))


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side of ``length``, the last one flush with its end; 0 where one covers it all."""
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def size_of(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """(height, width)."""
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


def _scaled(image: Image.Image | np.ndarray, scale: float) -> tuple[int, int]:
    """(height, width) of the image's view."""
    height, width = size_of(image)
    return max(1, round(height * scale)), max(1, round(width * scale))


class _View:
    """An image at another scale, of which only the rows asked for are computed."""

    def __init__(self, image: Image.Image | np.ndarray, scale: float, interpolation: Image.Resampling) -> None:
        self.image, self.interpolation = image, interpolation
        self.height, self.width = _scaled(image, scale)

    def rows(self, top: int, bottom: int) -> Tensor:
        """(bottom - top, width, C) uint8."""
        image = self.image
        if isinstance(image, np.ndarray):
            planes = [self._resized(Image.fromarray(image[:, :, c]), top, bottom) for c in range(image.shape[2])]
            return torch.from_numpy(np.concatenate(planes, axis=2))
        return torch.from_numpy(self._resized(image, top, bottom))

    def _resized(self, image: Image.Image, top: int, bottom: int) -> np.ndarray:
        if (self.height, self.width) == (image.height, image.width):
            return as_array(image.crop((0, top, image.width, bottom)))
        # Pillow's filter sees beyond the box, so that strips are those of the image resized at once, up to rounding.
        step = image.height / self.height
        box = (0, top * step, image.width, min(bottom * step, image.height))
        return as_array(image.resize((self.width, bottom - top), self.interpolation, box))


def _strips(view: _View, forward: Forward, sliding: Sliding, *, classes: int, mirrored: bool) -> Iterator[Tensor]:
    """A view's logits, (K, rows, w) from the top, as many rows as are finished at a time.

    What was given away is overwritten when the next is asked for.
    """
    high, wide = (min(side, window) for side, window in zip((view.height, view.width), sliding.window, strict=True))
    tops = window_starts(view.height, high, sliding.stride[0])
    lefts = window_starts(view.width, wide, sliding.stride[1])
    down, across = _seen(tops, high, view.height), _seen(lefts, wide, view.width)
    total: Tensor | None = None
    for top, following in pairwise([*tops, view.height]):
        pixels = view.rows(top, top + high)
        for place in range(0, len(lefts), sliding.batch_size):
            some = lefts[place : place + sliding.batch_size]
            windows = torch.stack([pixels[:, left : left + wide] for left in some]).permute(0, 3, 1, 2)
            logits = forward(windows.flip(-1)).flip(-1) if mirrored else forward(windows)
            if total is None:
                total = logits.new_zeros(classes, high, view.width, dtype=torch.float32)
                down, across = down.to(total.device), across.to(total.device)
            for left, window in zip(some, logits, strict=True):
                total[:, :, left : left + wide] += window
        assert total is not None
        done = following - top
        yield total[:, :done].div_(down[top:following, None] * across)
        for row in range(0, high - done, done):  # pieces that do not overlap with where they go: no copy is needed
            end = min(row + done, high - done)
            total[:, row:end] = total[:, row + done : end + done]
        total[:, high - done :] = 0


def _seen(starts: Sequence[int], window: int, length: int) -> Tensor:
    """(length,) float32: how many windows see each place along a side."""
    counts = torch.zeros(length)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def _resized(strips: Iterator[Tensor], size: tuple[int, int], target: tuple[int, int]) -> Iterator[Tensor]:
    """A view's logits at the image's size, bilinear as if resized at once, in blocks (K, rows, W)."""
    height = target[0]
    # Where the rows of the image lie between two of the view, pixels' centers over centers.
    place = ((torch.arange(height, dtype=torch.float64) + 0.5) * (size[0] / height) - 0.5).clamp(0, size[0] - 1)
    upper, lower = place.floor().long(), place.ceil().long()
    share = (place - upper).float()
    start = filled = 0
    last: Tensor | None = None
    block: Tensor | None = None
    for strip in strips:
        finished = int(torch.searchsorted(lower, start + strip.shape[1]))
        while filled < finished:
            row = filled % BLOCK
            if row == 0:
                block = strip.new_empty(strip.shape[0], min(BLOCK, height - filled), target[1])
            assert block is not None
            end = min(finished, filled - row + BLOCK)
            rows = slice(filled, end)
            block[:, row : row + end - filled] = (
                strip[:, filled - start : end - start]
                if size == target
                else _between(strip, last, upper[rows] - start, lower[rows] - start, share[rows], width=target[1])
            )
            filled = end
            if filled == height or filled % BLOCK == 0:
                yield block
        start += strip.shape[1]
        last = strip[:, -1:].clone()


def _between(
    strip: Tensor, before: Tensor | None, upper: Tensor, lower: Tensor, share: Tensor, *, width: int
) -> Tensor:
    """Rows between pairs of a strip's, of which -1 is the one ``before`` it, resized to ``width``."""
    upper, lower, share = (values.to(strip.device) for values in (upper, lower, share))
    rows = strip.index_select(1, upper.clamp(min=0))
    if before is not None:
        rows[:, upper < 0] = before
    rows.lerp_(strip.index_select(1, lower), share[:, None])
    return F.interpolate(rows[None], size=(rows.shape[1], width), mode="bilinear", align_corners=False)[0]
