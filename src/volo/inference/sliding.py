"""Scores of every pixel of an image of any size, computed in sliding windows.

Windows overlap, and the logits of a pixel are averaged over all windows that contain it. A horizontal row of windows
is a *strip*. Rows that the next strip does not touch are finished and are yielded, so only one strip of logits is in
memory, whatever the height of the image.

A *view* is the image at one scale, possibly mirrored. Each view has its own windows and its own strip. The logits of a
view are resized to the image's size, and the softmax of all views is averaged. Within a view, logits are averaged:
they have the same calibration. Between views, probabilities are averaged: the logits of another scale may be larger
without being more accurate. This is the usual test-time augmentation of segmentation models.

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

#: Number of rows that are yielded together. Results computed from a block need little memory compared with the strip.
BLOCK = 32

#: A function from pixels (B, C, h, w) uint8, 0–255, channels-last in memory, to logits (B, K, h, w).
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """Settings of sliding windows and views.

    Attributes:
        window: (height, width) of a window in pixels; a window is cut to the size of a smaller view.
        stride: (down, across) distance from one window to the next in pixels; the last window ends at the view's edge.
        scales: scales of the views, as factors of the image's sides.
        flip: add a mirrored view at every scale.
        batch_size: number of windows in a batch.

    Raises:
        ValueError: A value is out of range, or the stride is larger than the window.
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
            raise ValueError(f"scales must be one or more positive factors, not {self.scales!r}")
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
    """Compute the scores of an image, and yield them from the top in blocks of :data:`BLOCK` rows; the last has fewer.

    Args:
        image: a PIL image, or an array (H, W, C) uint8.
        forward: the model.
        sliding: windows and views.
        classes: K.
        interpolation: filter that resizes the image for views of other scales.

    Yields:
        (K, rows, W) float32 on the device of the output of ``forward``: logits if there is one view, otherwise
        probabilities. If one window covers the whole image, the logits equal those of ``forward`` exactly.
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
    """Return the positions where windows start along a side of ``length``; the last window ends at its end.

    The result is [0] if one window covers the side.
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def size_of(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Return (height, width) in pixels."""
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


def _scaled(image: Image.Image | np.ndarray, scale: float) -> tuple[int, int]:
    """Return (height, width) of the image's view at ``scale``."""
    height, width = size_of(image)
    return max(1, round(height * scale)), max(1, round(width * scale))


class _View:
    """An image at another scale; only the requested rows are computed."""

    def __init__(self, image: Image.Image | np.ndarray, scale: float, interpolation: Image.Resampling) -> None:
        self.image, self.interpolation = image, interpolation
        self.height, self.width = _scaled(image, scale)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Return the rows from ``top`` to ``bottom``, (bottom - top, width, C) uint8."""
        image = self.image
        if isinstance(image, np.ndarray):
            planes = [self._resized(Image.fromarray(image[:, :, c]), top, bottom) for c in range(image.shape[2])]
            return torch.from_numpy(np.concatenate(planes, axis=2))
        return torch.from_numpy(self._resized(image, top, bottom))

    def _resized(self, image: Image.Image, top: int, bottom: int) -> np.ndarray:
        if (self.height, self.width) == (image.height, image.width):
            return as_array(image.crop((0, top, image.width, bottom)))
        # Pillow's filter reads pixels outside the box, so these rows equal those of the whole image resized at once, up
        # to rounding.
        step = image.height / self.height
        box = (0, top * step, image.width, min(bottom * step, image.height))
        return as_array(image.resize((self.width, bottom - top), self.interpolation, box))


def _strips(view: _View, forward: Forward, sliding: Sliding, *, classes: int, mirrored: bool) -> Iterator[Tensor]:
    """Compute the logits of a view, and yield finished rows (K, rows, w) from the top.

    The memory of the yielded rows is reused for the next ones.
    """
    high, wide = (min(side, window) for side, window in zip((view.height, view.width), sliding.window, strict=True))
    tops = window_starts(view.height, high, sliding.stride[0])
    lefts = window_starts(view.width, wide, sliding.stride[1])
    down, across = _window_counts(tops, high, view.height), _window_counts(lefts, wide, view.width)
    total: Tensor | None = None
    for top, following in pairwise([*tops, view.height]):
        pixels = view.rows(top, top + high)
        for first in range(0, len(lefts), sliding.batch_size):
            batch = lefts[first : first + sliding.batch_size]
            windows = torch.stack([pixels[:, left : left + wide] for left in batch]).permute(0, 3, 1, 2)
            logits = forward(windows.flip(-1)).flip(-1) if mirrored else forward(windows)
            if total is None:
                total = logits.new_zeros(classes, high, view.width, dtype=torch.float32)
                down, across = down.to(total.device), across.to(total.device)
            for left, window in zip(batch, logits, strict=True):
                total[:, :, left : left + wide] += window
        assert total is not None
        done = following - top
        yield total[:, :done].div_(down[top:following, None] * across)
        # The unfinished rows move to the top, in pieces that do not overlap with their targets: this needs no copy.
        for row in range(0, high - done, done):
            end = min(row + done, high - done)
            total[:, row:end] = total[:, row + done : end + done]
        total[:, high - done :] = 0


def _window_counts(starts: Sequence[int], window: int, length: int) -> Tensor:
    """Return the number of windows that contain each position along a side, (length,) float32."""
    counts = torch.zeros(length)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def _resized(strips: Iterator[Tensor], size: tuple[int, int], target: tuple[int, int]) -> Iterator[Tensor]:
    """Resize the logits of a view to the image's size, strip by strip, and yield blocks (K, rows, W).

    The result is that of bilinear interpolation of the whole view, with ``align_corners=False``.

    Args:
        strips: logits of the view, (K, rows, w) each, from the top; their memory may be reused.
        size: (height, width) of the view.
        target: (height, width) of the image.
    """
    height = target[0]
    # Row r of the image is interpolated between the rows upper[r] and lower[r] of the view; share[r] is the weight of
    # the lower one.
    position = ((torch.arange(height, dtype=torch.float64) + 0.5) * (size[0] / height) - 0.5).clamp(0, size[0] - 1)
    upper, lower = position.floor().long(), position.ceil().long()
    share = (position - upper).float()
    # A strip finishes the image rows whose lower row it contains. The upper row of the first of them may be the last
    # row of the strip before, so this row is kept, as a copy. The finished rows fill blocks: a block may need several
    # strips, and a strip may fill several blocks.
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
                else _interpolated(strip, last, upper[rows] - start, lower[rows] - start, share[rows], width=target[1])
            )
            filled = end
            if filled == height or filled % BLOCK == 0:
                yield block
        start += strip.shape[1]
        last = strip[:, -1:].clone()


def _interpolated(
    strip: Tensor, before: Tensor | None, upper: Tensor, lower: Tensor, share: Tensor, *, width: int
) -> Tensor:
    """Interpolate between pairs of rows of a strip, and resize the result to ``width``.

    Args:
        strip: (K, rows, w).
        before: (K, 1, w), the row before the strip, which has index -1; None for the first strip.
        upper: (n,) indices of the upper rows, from -1.
        lower: (n,) indices of the lower rows, from 0.
        share: (n,) weights of the lower rows, 0–1.
        width: W.

    Returns:
        (K, n, W).
    """
    upper, lower, share = (values.to(strip.device) for values in (upper, lower, share))
    rows = strip.index_select(1, upper.clamp(min=0))
    if before is not None:
        rows[:, upper < 0] = before
    rows.lerp_(strip.index_select(1, lower), share[:, None])
    return F.interpolate(rows[None], size=(rows.shape[1], width), mode="bilinear", align_corners=False)[0]
