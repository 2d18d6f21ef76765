"""Outlook attention with strided slices in the place of unfold and fold: plain PyTorch, standard operators only.

Gathering is K² strided slices of the padded map. Scattering uses that the output rows (and columns) of one
phase, those with the same remainder by the stride, receive disjoint sets of window rows: every phase is a
sum of shifted maps, and the phases are interleaved by a reshape. No index arithmetic, no scatter, so the
path compiles, exports and differentiates by itself.

Shape letters: B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window, S stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.ops.backend import Backend, Geometry


def outlook_attention_slices(value: Tensor, logits: Tensor, geometry: Geometry) -> Tensor:
    """Mix the windows of ``value`` (B,H,W,C) by ``logits`` (B,h,w,N,K²,K²) without im2col's permuted copies."""
    batch, height, width, channels = value.shape
    h, w, heads = logits.shape[1:4]
    windows = _gather(value, h, w, geometry).reshape(batch, h, w, geometry.window, heads, channels // heads)
    weights = (logits * geometry.scale).softmax(dim=-1)
    if geometry.dropout_p:
        weights = F.dropout(weights, geometry.dropout_p)
    mixed = weights @ windows.transpose(3, 4)  # B h w N K² D
    return _scatter(mixed, height, width, geometry)


def _gather(value: Tensor, h: int, w: int, geometry: Geometry) -> Tensor:
    """(B,H,W,C) to (B,h,w,K²,C): the window of every strided position, zeros outside the map."""
    kernel, stride, pad = geometry.kernel_size, geometry.stride, geometry.padding
    padded = F.pad(value, (0, 0, pad, pad, pad, pad))
    rows, cols = stride * (h - 1) + 1, stride * (w - 1) + 1
    slices = [padded[:, i : i + rows : stride, j : j + cols : stride] for i in range(kernel) for j in range(kernel)]
    return torch.stack(slices, dim=3)


def _scatter(mixed: Tensor, height: int, width: int, geometry: Geometry) -> Tensor:
    """(B,h,w,N,K²,D) to (B,H,W,N·D): every window added where it was gathered, the padding cut off."""
    kernel, stride, pad = geometry.kernel_size, geometry.stride, geometry.padding
    batch, h, w, heads, _, dim = mixed.shape
    reach = (kernel - 1) // stride  # how many further windows of its phase a position can belong to
    positions = mixed.flatten(3).unflatten(3, (heads, kernel * kernel, dim)).unbind(dim=4)
    phases = []
    for a in range(stride):
        for b in range(stride):
            shifted = [
                F.pad(
                    positions[i * kernel + j],
                    (0, 0, 0, 0, j // stride, reach - j // stride, i // stride, reach - i // stride),
                )
                for i in range(a, kernel, stride)
                for j in range(b, kernel, stride)
            ]
            phases.append(sum(shifted[1:], start=shifted[0]) if shifted else None)
    empty = mixed.new_zeros(()).expand(batch, h + reach, w + reach, heads, dim)
    grid = torch.stack([empty if phase is None else phase for phase in phases], dim=1)
    grid = grid.unflatten(1, (stride, stride)).permute(0, 3, 1, 4, 2, 5, 6)  # B u a v b N D
    out = grid.reshape(batch, stride * (h + reach), stride * (w + reach), heads * dim)
    # Rows beyond the last window receive nothing: where the stride leaves a remainder they are appended as zeros.
    missing = max(0, pad + height - out.shape[1]), max(0, pad + width - out.shape[2])
    if any(missing):
        out = F.pad(out, (0, 0, 0, missing[1], 0, missing[0]))
    return out[:, pad : pad + height, pad : pad + width]


SLICES = Backend(name="slices", refuse=lambda value, logits, geometry: None, run=outlook_attention_slices)
