"""Outlook attention with slices instead of unfold and fold: plain PyTorch, standard operators only.

Rows of the map with the same remainder modulo the stride are called a phase, and so are columns. All positions of one
row phase and one column phase form a smaller map, which is a view of the map. The vectors at position (i, j) of all
windows are one of these smaller maps, shifted; stacking them over (i, j) gathers all windows. For the output, each
phase is the sum of the shifted maps of its window positions, and a reshape interleaves the phases. There is no index
arithmetic and no scatter, so PyTorch can compile, export and differentiate this code without further help.

Without gradients, a large map is mixed in bands of window rows, which saves memory: all windows at once would take
K²/S² times the memory of the map.

Shape letters: B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window, S stride, Q R rows and
columns of a phase: ceil(H/S), ceil(W/S). In the code, (y, a) are shift and phase of a row, (x, b) of a column.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.ops.backend import Backend, Geometry

#: Most numbers in the windows of one band. Smaller bands are not faster, and launch many small kernels.
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
    """Return whether a graph for any size is being traced.

    Conditions on a side must be avoided then, since the graph would keep the branch of the example's size.
    """
    return any(isinstance(side, torch.SymInt) for side in sides)


def _band(logits: Tensor, channels: int) -> int:
    """Return the number of window rows in a band."""
    batch, _, w, _, window, _ = logits.shape
    return max(1, BAND // max(1, batch * w * window * channels))


def _in_bands(grid: Tensor, logits: Tensor, band: int, geometry: Geometry) -> Tensor:
    """Mix the grid (B,Q,S,R,S,N,D) to (B,Q·S,R·S,N,D), ``band`` window rows at a time.

    The bands are added in place, so this works only without gradients.
    """
    for top in range(0, logits.shape[1], band):
        mixed = _mix(grid, logits[:, top : top + band], top, geometry)
        if top == 0:
            out = mixed.new_zeros(grid.shape)  # created here because autocast decides the dtype of ``mixed``
        for position, ((y, a), (x, b)) in zip(mixed.unbind(dim=4), _shifts(geometry), strict=True):
            target = out[:, :, a, :, b]
            rows, cols = position.shape[1:3]
            first, left = max(0, top + y), max(0, x)
            last, right = min(target.shape[1], top + y + rows), min(target.shape[2], x + cols)
            if first < last and left < right:
                target[:, first:last, left:right] += position[:, first - top - y : last - top - y, left - x : right - x]
    return out.flatten(3, 4).flatten(1, 2)


def _mix(grid: Tensor, logits: Tensor, top: int, geometry: Geometry) -> Tensor:
    """Return the mixed windows (B,h,w,N,K²,D) of the grid (B,Q,S,R,S,N,D).

    ``logits`` (B,h,w,N,K²,K²) holds h window rows, of which the first is window row ``top`` of the map.
    """
    batch, h, w, heads, window, _ = logits.shape
    dim, length = grid.shape[-1], batch * h * w * heads
    # PyTorch's softmax over a last dimension as short as K² is ten times slower than over the first dimension.
    weights = (logits.reshape(length * window, window).t().contiguous() * geometry.scale).softmax(dim=0)
    if geometry.dropout_p:
        weights = F.dropout(weights, geometry.dropout_p)
    weights = weights.reshape(window, length, window).permute(1, 2, 0)  # a view; j is first in memory
    windows = _gather(grid, top, h, w, geometry).reshape(length, window, dim)
    return (weights @ windows).reshape(batch, h, w, heads, window, dim)


def _shifts(geometry: Geometry) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return ((row shift, row phase), (column shift, column phase)) for every position of a window, in row order.

    Row i of window y is row y·S + i - padding of the map. Its remainder modulo S, the phase, is the same for all
    windows, and so is the shift: window y takes row y + shift of that phase. For K = 3, S = 2 and padding = 1, the
    three rows of a window have (shift, phase) = (-1, 1), (0, 0) and (0, 1). The same holds for columns.
    """
    side = [divmod(i - geometry.padding, geometry.stride) for i in range(geometry.kernel_size)]
    return list(product(side, side))


def _grid(value: Tensor, stride: int) -> Tensor:
    """Split rows and columns into phases: (B,H,W,N,D) to (B,Q,S,R,S,N,D), zero-padded to a multiple of the stride."""
    height, width = value.shape[1:3]
    # This rounds up without negative numbers, since integer division in ONNX rounds toward zero.
    rows, cols = (height - 1) // stride + 1, (width - 1) // stride + 1
    if _varies(height, width) or (rows * stride, cols * stride) != (height, width):
        value = F.pad(value, (0, 0, 0, 0, 0, cols * stride - width, 0, rows * stride - height))
    return value.unflatten(2, (cols, stride)).unflatten(1, (rows, stride))


def _gather(grid: Tensor, top: int, h: int, w: int, geometry: Geometry) -> Tensor:
    """Return the windows (B,h,w,N,K²,D) of h window rows from ``top`` on; positions outside the map are zero."""
    # The phases are unbound once. Their gradients are then summed at the size of a phase, not at that of the map.
    phases = [row.unbind(3) for row in grid.unbind(2)]
    return torch.stack([_shifted(phases[a][b], top + y, x, h, w) for (y, a), (x, b) in _shifts(geometry)], dim=4)


def _scatter(mixed: Tensor, rows: int, cols: int, geometry: Geometry) -> Tensor:
    """Add mixed windows (B,h,w,N,K²,D) into a map (B,Q·S,R·S,N,D); positions outside the map are dropped."""
    stride = geometry.stride
    phases: dict[tuple[int, int], Tensor] = {}
    for position, ((y, a), (x, b)) in zip(mixed.unbind(dim=4), _shifts(geometry), strict=True):
        shifted = _shifted(position, -y, -x, rows, cols)
        phases[a, b] = phases[a, b] + shifted if (a, b) in phases else shifted
    empty = mixed.new_zeros(()).expand(mixed.shape[0], rows, cols, mixed.shape[3], mixed.shape[5])
    grid = [torch.stack([phases.get((a, b), empty) for b in range(stride)], dim=3) for a in range(stride)]
    return torch.stack(grid, dim=2).flatten(3, 4).flatten(1, 2)  # B Q S R S N D to B Q·S R·S N D


def _shifted(grid: Tensor, top: int, left: int, rows: int, cols: int) -> Tensor:
    """Return ``grid[:, top : top + rows, left : left + cols]`` of a grid (B,Q,R,N,D), with zeros outside the grid."""
    below, right = top + rows - grid.shape[1], left + cols - grid.shape[2]
    if not (top or left or below or right):
        return grid
    if top + rows <= 0 or below >= rows or left + cols <= 0 or right >= cols:  # all outside
        return grid.new_zeros(grid.shape[0], rows, cols, *grid.shape[3:])
    return F.pad(grid, (0, 0, 0, 0, -left, right, -top, below))


SLICES = Backend(name="slices", refuse=lambda value, logits, geometry: None, run=outlook_attention_slices)
