"""Outlook attention as in the paper: unfold, softmax, matmul, fold. All other backends are tested against it.

Shape letters: B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window, L = h·w.
"""

import torch.nn.functional as F
from torch import Tensor

from volo.ops.backend import Backend, Geometry


def outlook_attention_reference(value: Tensor, logits: Tensor, geometry: Geometry) -> Tensor:
    """Mix the windows of ``value`` (B,H,W,C) by ``logits`` (B,h,w,N,K²,K²) with im2col and its adjoint.

    Source: VOLO, arXiv:2106.13112, algorithm 1.
    """
    batch, height, width, channels = value.shape
    heads, window = logits.shape[3], geometry.window
    length = logits.shape[1] * logits.shape[2]
    layout = {"kernel_size": geometry.kernel_size, "padding": geometry.padding, "stride": geometry.stride}

    columns = F.unfold(value.permute(0, 3, 1, 2), **layout)
    columns = columns.reshape(batch, heads, channels // heads, window, length).permute(0, 1, 4, 3, 2)  # B N L K² D

    weights = (logits * geometry.scale).softmax(dim=-1)
    if geometry.dropout_p:
        weights = F.dropout(weights, geometry.dropout_p)
    weights = weights.reshape(batch, length, heads, window, window).permute(0, 2, 1, 3, 4)  # B N L K² K²

    mixed = (weights @ columns).permute(0, 1, 4, 3, 2).reshape(batch, channels * window, length)
    return F.fold(mixed, output_size=(height, width), **layout).permute(0, 2, 3, 1)


REFERENCE = Backend(name="reference", refuse=lambda value, logits, geometry: None, run=outlook_attention_reference)
