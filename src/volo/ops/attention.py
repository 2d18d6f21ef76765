"""Self-attention over short sequences with small heads, as VOLO's second stage has it, for inference.

Shape letters: B batch, L tokens, N heads, D head dim, C = N·D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.ops.native import library

#: Where it was measured to be faster than PyTorch.
_INSTRUCTION_SETS = ("avx2", "avx512")
#: Of longer sequences the scores of a few queries outgrow the cache, and PyTorch's kernel, which works in blocks of
#: keys, is faster.
_MOST_TOKENS = 1024


def self_attention(qkv: Tensor) -> Tensor:
    """Softmax attention of every token to all, by the native library where it can, else by PyTorch.

    It has no gradient and is not seen through by ``torch.compile``.

    Args:
        qkv: (B, L, 3, N, D): queries, keys and values, floating.

    Returns:
        (B, L, C); dtype and device of ``qkv``. Scores are scaled by ``D ** -0.5``.
    """
    loaded = library.load()
    if isinstance(loaded, library.Library) and loaded.instruction_sets[-1] in _INSTRUCTION_SETS and _suits(qkv):
        return loaded.attention(qkv.contiguous())
    return scaled_dot_product(qkv)


def scaled_dot_product(qkv: Tensor) -> Tensor:
    """The same by PyTorch alone."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each B N L D
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _suits(qkv: Tensor) -> bool:
    on_cpu = qkv.device.type == "cpu" and qkv.dtype == torch.float32
    return on_cpu and qkv.shape[-1] % 16 == 0 and qkv.shape[1] <= _MOST_TOKENS
