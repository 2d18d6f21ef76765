"""Blocks of a VOLO for inference only, with the same results from fewer passes over memory.

Shape letters: B batch, h w token map, N heads, D head dim, C = N·D, L tokens, K window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.fused.layers import InferenceConv, InferenceLinear
from volo.layers import ClassBlock, Downsample, Mlp, Outlooker, PatchEmbed, Transformer
from volo.ops import outlook_attention


def linear(layer: nn.Linear, *, pack: bool, gelu: bool = False) -> InferenceLinear:
    """Return an inference layer with a copy of the weights of ``layer``."""
    return InferenceLinear(layer.weight, layer.bias, gelu=gelu, pack=pack)


def layer_norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    """Return a copy of ``norm`` whose weights are not trainable."""
    copy = nn.LayerNorm(norm.normalized_shape, eps=norm.eps, device="meta")
    copy.load_state_dict({name: tensor.clone() for name, tensor in norm.state_dict().items()}, assign=True)
    return copy.requires_grad_(False)


class InferenceStem(nn.Module):
    """:class:`PatchEmbed` with its BatchNorm folded in: (B, in_chans, H, W) to (B, h, w, C), contiguous."""

    def __init__(self, stem: PatchEmbed, *, pack: bool) -> None:
        super().__init__()
        convs = [layer for layer in stem.conv if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in stem.conv if isinstance(layer, nn.BatchNorm2d)]
        self.conv = nn.Sequential(
            *(InferenceConv(conv, norm, relu=True, pack=pack) for conv, norm in zip(convs, norms, strict=True))
        )
        self.proj = InferenceConv(stem.proj, pack=pack)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.conv(x)).permute(0, 2, 3, 1).contiguous()


class InferenceDownsample(nn.Module):
    """:class:`Downsample` over channels-last memory: (B, H, W, dim) to (B, H // 2, W // 2, out_dim), contiguous."""

    def __init__(self, downsample: Downsample, *, pack: bool) -> None:
        super().__init__()
        self.proj = InferenceConv(downsample.proj, pack=pack)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


class InferenceMlp(nn.Module):
    """:class:`Mlp` with GELU inside its first layer and the residual inside its second: (..., C) to the same."""

    def __init__(self, mlp: Mlp, *, pack: bool) -> None:
        super().__init__()
        self.fc1 = linear(mlp.fc1, gelu=True, pack=pack)
        self.fc2 = linear(mlp.fc2, pack=pack)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.fc2(self.fc1(x), residual)


class InferenceOutlooker(nn.Module):
    """:class:`Outlooker`: (B, H, W, C) to the same shape."""

    def __init__(self, block: Outlooker, *, pack: bool) -> None:
        super().__init__()
        attention = block.attn
        self.num_heads, self.kernel_size, self.stride = attention.num_heads, attention.kernel_size, attention.stride
        self.scale, self.backend = attention.scale, attention.backend
        self.norm1, self.norm2 = layer_norm(block.norm1), layer_norm(block.norm2)
        self.v, self.attn = linear(attention.v, pack=pack), linear(attention.attn, pack=pack)
        self.proj, self.mlp = linear(attention.proj, pack=pack), InferenceMlp(block.mlp, pack=pack)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        pooled = normed.permute(0, 3, 1, 2)
        if self.stride > 1:
            pooled = F.avg_pool2d(pooled, self.stride, ceil_mode=True)
        mixed = outlook_attention(
            self.v(normed),
            self.attn(pooled.permute(0, 2, 3, 1)).unflatten(-1, (self.num_heads, *[self.kernel_size**2] * 2)),
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.kernel_size // 2,
            scale=self.scale,
            backend=self.backend,
        )
        x = self.proj(mixed, x)
        return self.mlp(self.norm2(x), x)


class InferenceTransformer(nn.Module):
    """:class:`Transformer`: (B, h, w, C) to the same shape."""

    def __init__(self, block: Transformer, *, pack: bool) -> None:
        super().__init__()
        self.num_heads = block.attn.num_heads
        self.norm1, self.norm2 = layer_norm(block.norm1), layer_norm(block.norm2)
        self.qkv, self.proj = linear(block.attn.qkv, pack=pack), linear(block.attn.proj, pack=pack)
        self.mlp = InferenceMlp(block.mlp, pack=pack)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).flatten(1, 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each B N L D
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = self.proj(mixed, x)
        return self.mlp(self.norm2(x), x)


class InferenceClassBlock(nn.Module):
    """:class:`ClassBlock` without keys and values of the tokens: (B, 1, C) and tokens (B, L, C) to (B, 1, C).

    With one query, ``q · (Wk x)`` equals ``(Wkᵀ q) · x``, and ``Σ a (Wv x)`` equals ``Wv Σ a x``. So the tokens are
    scored and summed as they are, which takes N·C products per token instead of 2·C². The gain of the normalization
    is folded into both weights. Its shift adds the same number to all scores of a query, which the softmax cancels,
    and adds ``Wv shift`` to the result, because the attention weights sum to 1.
    """

    key: Tensor
    value: Tensor

    def __init__(self, block: ClassBlock, *, pack: bool) -> None:
        super().__init__()
        attention = block.attn
        heads, dim = attention.num_heads, attention.q.in_features
        self.num_heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm1, self.norm2 = layer_norm(block.norm1), layer_norm(block.norm2)
        key, value = attention.kv.weight.detach().double().chunk(2)
        gain, shift = block.norm1.weight.detach().double(), block.norm1.bias.detach().double()
        dtype = attention.kv.weight.dtype
        self.register_buffer("key", (key * gain).view(heads, -1, dim).to(dtype))  # N D C
        self.register_buffer("value", (value * gain).view(heads, -1, dim).transpose(1, 2).to(dtype))  # N C D
        bias = attention.proj.bias.detach() + (attention.proj.weight.detach().double() @ (value @ shift)).to(dtype)
        self.q = linear(attention.q, pack=pack)
        self.proj = InferenceLinear(attention.proj.weight, bias, pack=pack)
        self.mlp = InferenceMlp(block.mlp, pack=pack)

    def forward(self, cls: Tensor, tokens: Tensor) -> Tensor:
        return self.attend(cls, F.layer_norm(tokens, self.norm1.normalized_shape, eps=self.norm1.eps))

    def attend(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Run ``forward`` on tokens that are normalized already, without gain and shift."""
        batch, _, dim = cls.shape
        own = F.layer_norm(cls, self.norm1.normalized_shape, eps=self.norm1.eps)
        query = self.q(self.norm1(cls)).view(batch, self.num_heads, -1) * self.scale
        query = torch.bmm(query.transpose(0, 1), self.key).transpose(0, 1)  # B N C
        scores = torch.cat([query @ own.transpose(1, 2), query @ tokens.transpose(1, 2)], dim=2)
        weights = scores.softmax(dim=2)
        mixed = weights[:, :, :1] * own + weights[:, :, 1:] @ tokens  # B N C
        mixed = torch.bmm(mixed.transpose(0, 1), self.value).transpose(0, 1)  # B N D
        cls = self.proj(mixed.reshape(batch, 1, dim), cls)
        return self.mlp(self.norm2(cls), cls)
