"""Outlook attention with slices in the place of unfold and fold: plain PyTorch, standard operators only.

The map's rows (and columns) of one phase, those with the same remainder by the stride, form a smaller map, a view.
Position (i, j) of all windows together is one such map, shifted: that is what gathers the windows. Backwards, every
phase of the output is a sum of shifted maps of window positions, and the phases are interleaved by a reshape. No
index arithmetic, no scatter, so the path compiles, exports and differentiates by itself.

Where no gradient is asked for, a large map is mixed by bands of its windows' rows: all windows together, which im2col
needs, hold K²/S² times the map.

Shape letters: B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window, S stride, Q R rows and
columns of a phase: ceil(H/S), ceil(W/S).
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.ops.backend import Backend, Geometry

#: Numbers that the windows of one band hold; smaller bands gain nothing and start many small kernels.
BAND = 1 << 22


def outlook_attention_slices(value: Tensor, logits: Tensor, geometry: Geometry) -> Tensor:
    """Mix the windows of ``value`` (B,H,W,C) by ``logits`` (B,h,w,N,K²,K²) without im2col's permuted copies."""
    height, width, channels = value.shape[1:]
    h, heads = logits.shape[1], logits.shape[3]
    grid = _grid(value.unflatten(3, (heads, channels // heads)), geometry.stride)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or (band := _band(logits, channels)) >= h:
        out = _scatter(_mix(grid, logits, 0, geometry), grid.shape[1], grid.shape[3], geometry)
    else:
        out = _in_bands(grid, logits, band, geometry)
    if _varies(height, width):
        return F.pad(out.flatten(3), (0, 0, 0, width - out.shape[2], 0, height - out.shape[1]))
    return out[:, :height, :width].flatten(3)


def _varies(*sides: int) -> bool:
    """Whether a graph of any size is being made: what it asks of a side would hold for those of the example alone."""
    return any(isinstance(side, torch.SymInt) for side in sides)


def _band(logits: Tensor, channels: int) -> int:
    """Rows of windows of a band."""
    batch, _, w, _, window, _ = logits.shape
    return max(1, BAND // max(1, batch * w * window * channels))


def _in_bands(grid: Tensor, logits: Tensor, band: int, geometry: Geometry) -> Tensor:
    """(B,Q,S,R,S,N,D) mixed to (B,Q·S,R·S,N,D), ``band`` rows of windows at a time; without gradients: in place."""
    for top in range(0, logits.shape[1], band):
        mixed = _mix(grid, logits[:, top : top + band], top, geometry)
        if top == 0:
            out = mixed.new_zeros(grid.shape)  # only now, since autocast decides its dtype
        for position, ((y, a), (x, b)) in zip(mixed.unbind(dim=4), _shifts(geometry), strict=True):
            target = out[:, :, a, :, b]
            rows, cols = position.shape[1:3]
            first, left = max(0, top + y), max(0, x)
            last, right = min(target.shape[1], top + y + rows), min(target.shape[2], x + cols)
            if first < last and left < right:
                target[:, first:last, left:right] += position[:, first - top - y : last - top - y, left - x : right - x]
    return out.flatten(3, 4).flatten(1, 2)


def _mix(grid: Tensor, logits: Tensor, top: int, geometry: Geometry) -> Tensor:
    """(B,Q,S,R,S,N,D) to (B,h,w,N,K²,D): the windows of the rows from ``top`` on that ``logits`` has, mixed."""
    batch, h, w, heads, window, _ = logits.shape
    dim, length = grid.shape[-1], batch * h * w * heads
    # PyTorch's softmax over a last dimension as short as K² is an order of magnitude slower than over a first one.
    weights = (logits.reshape(length * window, window).t().contiguous() * geometry.scale).softmax(dim=0)
    if geometry.dropout_p:
        weights = F.dropout(weights, geometry.dropout_p)
    weights = weights.reshape(window, length, window).permute(1, 2, 0)  # a view: j comes first in memory
    windows = _gather(grid, top, h, w, geometry).reshape(length, window, dim)
    return (weights @ windows).reshape(batch, h, w, heads, window, dim)


def _shifts(geometry: Geometry) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """For every position of a window ((shift, phase) of its row, of its column): where in the grid it lies."""
    side = [divmod(i - geometry.padding, geometry.stride) for i in range(geometry.kernel_size)]
    return list(product(side, side))


def _grid(value: Tensor, stride: int) -> Tensor:
    """(B,H,W,N,D) to (B,Q,S,R,S,N,D): rows and columns by phase, zeros up to a whole number of strides."""
    height, width = value.shape[1:3]
    # Rounded up without a negative number: in a graph of ONNX a division rounds toward zero.
    rows, cols = (height - 1) // stride + 1, (width - 1) // stride + 1
    if _varies(height, width) or (rows * stride, cols * stride) != (height, width):
        value = F.pad(value, (0, 0, 0, 0, 0, cols * stride - width, 0, rows * stride - height))
    return value.unflatten(2, (cols, stride)).unflatten(1, (rows, stride))


def _gather(grid: Tensor, top: int, h: int, w: int, geometry: Geometry) -> Tensor:
    """(B,Q,S,R,S,N,D) to (B,h,w,N,K²,D): the window of every strided position from row ``top`` on, zeros outside."""
    # Unbound once, so that the gradients of a phase's shifts are added at the phase's size, not at the map's.
    phases = [row.unbind(3) for row in grid.unbind(2)]
    return torch.stack([_shifted(phases[a][b], top + y, x, h, w) for (y, a), (x, b) in _shifts(geometry)], dim=4)


def _scatter(mixed: Tensor, rows: int, cols: int, geometry: Geometry) -> Tensor:
    """(B,h,w,N,K²,D) to (B,Q·S,R·S,N,D): every window added where it was gathered, what falls outside left out."""
    stride = geometry.stride
    phases: dict[tuple[int, int], Tensor] = {}
    for position, ((y, a), (x, b)) in zip(mixed.unbind(dim=4), _shifts(geometry), strict=True):
        part = _shifted(position, -y, -x, rows, cols)
        phases[a, b] = phases[a, b] + part if (a, b) in phases else part
    empty = mixed.new_zeros(()).expand(mixed.shape[0], rows, cols, mixed.shape[3], mixed.shape[5])
    grid = [torch.stack([phases.get((a, b), empty) for b in range(stride)], dim=3) for a in range(stride)]
    return torch.stack(grid, dim=2).flatten(3, 4).flatten(1, 2)  # B Q S R S N D to B Q·S R·S N D


def _shifted(grid: Tensor, top: int, left: int, rows: int, cols: int) -> Tensor:
    """``grid[:, top : top + rows, left : left + cols]``, zeros outside the grid (B,Q,R,N,D)."""
    below, right = top + rows - grid.shape[1], left + cols - grid.shape[2]
    if not (top or left or below or right):
        return grid
    if top + rows <= 0 or below >= rows or left + cols <= 0 or right >= cols:  # all outside
        return grid.new_zeros(grid.shape[0], rows, cols, *grid.shape[3:])
    return F.pad(grid, (0, 0, 0, 0, -left, right, -top, below))


SLICES = Backend(name="slices", refuse=lambda value, logits, geometry: None, run=outlook_attention_slices)
