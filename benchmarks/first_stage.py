"""What else could stand in VOLO's first stage: the mixing of its Outlookers replaced, with as many parameters.

Norms, MLPs, residuals and everything outside the stage stay, with the very weights that they begin with.
"""

from collections.abc import Callable

import torch
from timm.models.metaformer import SepConv
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from volo.layers import Outlooker
from volo.models import VOLO

#: tokens along a window of self-attention: half of the side of the micro's map.
WINDOW = 4

#: The block that takes the place of an Outlooker, given with its number and the (H, W) of its map.
Replacement = Callable[[Outlooker, int, tuple[int, int]], nn.Module]


def replace_outlookers(model: VOLO, replacement: Replacement, seed: int) -> None:
    """Put a replacement for every Outlooker into ``model``, its first weights drawn from the seed."""
    height, width = (side // model.config.patch_size for side in model.config.img_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = [replacement(block, number, (height, width)) for number, block in enumerate(model.network[0])]
    model.network[0] = nn.Sequential(*blocks).to(memory_format=torch.channels_last)


class SeparableConvolution(nn.Module):
    """Pointwise to ``channels``, StarReLU, 3×3 depthwise, pointwise back: timm's, on a map (B, H, W, dim).

    Source: MetaFormer Baselines for Vision, arXiv:2210.13452, section 3 (there of 7×7).
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.mix = SepConv(dim, (channels + 0.5) / dim, kernel_size=3, padding=1)  # it rounds down

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def convolution(outlooker: Outlooker, number: int, grid: tuple[int, int]) -> nn.Module:
    """Build an Outlooker with a 3×3 depthwise-separable convolution in place of outlook attention."""
    (dim,) = outlooker.norm1.normalized_shape
    outlooker.attn = _as_large(lambda channels: SeparableConvolution(dim, channels), outlooker.attn)
    _begin(outlooker.attn)
    return outlooker


def window_attention(outlooker: Outlooker, number: int, grid: tuple[int, int]) -> nn.Module:
    """Swin's block, timm's, with the Outlooker's norms and MLP; the windows of every other block are shifted.

    Source: Swin Transformer, arXiv:2103.14030, section 3.2.
    """
    (dim,), heads = outlooker.norm1.normalized_shape, outlooker.attn.num_heads
    shift, mlp_ratio = WINDOW // 2 * (number % 2), outlooker.mlp.fc1.out_features / dim

    def block(head_dim: int) -> SwinTransformerBlock:
        return SwinTransformerBlock(dim, grid, heads, head_dim, WINDOW, shift, mlp_ratio=mlp_ratio)

    new = _as_large(block, outlooker)
    _begin(new.attn)
    new.norm1, new.norm2, new.mlp = outlooker.norm1, outlooker.norm2, outlooker.mlp
    return new


def _as_large(make: Callable[[int], nn.Module], wanted: nn.Module) -> nn.Module:
    """Return a module of ``make`` with the width that brings its parameters closest to those of ``wanted``."""
    one, two = count(make(1)), count(make(2))
    return make(max(1, round(1 + (count(wanted) - one) / (two - one))))


def _begin(module: nn.Module) -> None:
    """First weights by the rule of VOLO's small sizes: standard deviation 1 / sqrt(inputs)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
