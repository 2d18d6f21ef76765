"""The Outlooker: outlook attention and an MLP.

Shape letters: B batch, H W map, h w strided map, N heads, C channels, K window, s stride.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from volo.layers.drop import DropPath
from volo.layers.mlp import Mlp
from volo.ops import outlook_attention


class OutlookAttention(nn.Module):
    """Attention whose weights a linear layer predicts from the center of every K×K window.

    Maps (B, H, W, C) channels-last to the same shape.

    Args:
        dim: C, a multiple of ``num_heads``.
        num_heads: N.
        kernel_size: K, odd; the padding is (K - 1) / 2, so that the windows cover every position.
        stride: distance between windows; the input of the linear layer is the map, average-pooled by the stride.
        attn_drop: dropout probability of the attention weights in training.

    Attributes:
        backend: name of the operator's backend; None lets the operator choose.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, or ``kernel_size`` is even.

    Source: VOLO, arXiv:2106.13112, section 3.1.
    """

    def __init__(
        self, dim: int, num_heads: int, *, kernel_size: int = 3, stride: int = 2, attn_drop: float = 0.0
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.stride = stride
        self.scale = (dim // num_heads) ** -0.5
        self.attn_drop = attn_drop
        self.backend: str | None = None
        self.v = nn.Linear(dim, dim, bias=False)
        self.attn = nn.Linear(dim, num_heads * kernel_size**4)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.permute(0, 3, 1, 2)
        if self.stride > 1:
            pooled = F.avg_pool2d(pooled, self.stride, ceil_mode=True)
        logits = self.attn(pooled.permute(0, 2, 3, 1))
        logits = logits.unflatten(-1, (self.num_heads, self.kernel_size**2, self.kernel_size**2))
        mixed = outlook_attention(
            self.v(x),
            logits,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.kernel_size // 2,
            scale=self.scale,
            dropout_p=self.attn_drop if self.training else 0.0,
            backend=self.backend,
        )
        return self.proj(mixed)


class Outlooker(nn.Module):
    """A pre-norm residual block of outlook attention and an MLP over (B, H, W, C)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        kernel_size: int = 3,
        stride: int = 2,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = OutlookAttention(dim, num_heads, kernel_size=kernel_size, stride=stride, attn_drop=attn_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
