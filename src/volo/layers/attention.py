"""Self-attention of the second stage, and class attention.

Shape letters: B batch, h w token map, N heads, D head dim, C = N·D, L tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from volo.layers.drop import DropPath
from volo.layers.mlp import Mlp

#: Number of tokens up to which two matrix products train faster than PyTorch's flash kernel in half precision on a CPU.
#: Forward and backward together, the flash kernel takes 8 times as long for 16 tokens, the same time for 196 tokens,
#: and a third of the time for 1024 tokens (bfloat16, Zen 4).
FEW = 128


def attend(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Compute scaled dot-product attention of tensors (B, N, L, D) with the fastest kernel.

    Args:
        q: queries.
        k: keys.
        v: values.
        dropout: dropout probability of the attention weights.

    Returns:
        (B, N, L, D), one vector for each query.
    """
    matrix_products = (
        q.device.type == "cpu" and q.dtype != torch.float32 and k.shape[-2] <= FEW and torch.is_grad_enabled()
    )
    if not matrix_products:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)


class Attention(nn.Module):
    """Multi-head self-attention over a token map, (B, h, w, C) to the same shape."""

    def __init__(self, dim: int, num_heads: int, *, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each B N L D
        mixed = attend(q, k, v, dropout=self.attn_drop if self.training else 0.0)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


class Transformer(nn.Module):
    """A pre-norm residual block of self-attention and an MLP over (B, h, w, C)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, attn_drop=attn_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ClassAttention(nn.Module):
    """Attention of one query, the class token, to itself and all tokens: (B, 1+L, C) to (B, 1, C).

    Source: CaiT, arXiv:2103.17239, section 3.
    """

    def __init__(self, dim: int, num_heads: int, *, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.q = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        k, v = self.kv(x).reshape(batch, length, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q = self.q(x[:, :1]).reshape(batch, 1, self.num_heads, -1).transpose(1, 2)
        mixed = attend(q, k, v, dropout=self.attn_drop if self.training else 0.0)
        return self.proj(mixed.transpose(1, 2).reshape(batch, 1, dim))


class ClassBlock(nn.Module):
    """A pre-norm residual block that computes a new class token (B, 1, C) from the old one and the tokens (B, L, C)."""

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ClassAttention(dim, num_heads, attn_drop=attn_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, cls: Tensor, tokens: Tensor) -> Tensor:
        cls = cls + self.attn(self.norm1(torch.cat([cls, tokens], dim=1)))
        return cls + self.mlp(self.norm2(cls))
