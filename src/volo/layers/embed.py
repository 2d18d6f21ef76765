"""Conversion of pixels to tokens, and of a token grid to another size.

Shape letters: B batch, H W image, h w tokens, C channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """A convolutional stem at half the resolution, and a convolution that turns each patch into a token.

    Maps (B, in_chans, H, W) to channels-last tokens (B, h, w, dim) with h = ceil(H / 2) // (patch_size / 2).

    Args:
        in_chans: channels of the image.
        width: channels of the stem.
        dim: channels of the tokens.
        patch_size: side of a token in image pixels, even; 8 in the paper.
    """

    def __init__(self, in_chans: int, width: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, width, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.proj = nn.Conv2d(width, dim, kernel_size=patch_size // 2, stride=patch_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        # All blocks work on channels-last memory. Without contiguous(), each of them would copy its input again.
        return self.proj(self.conv(x)).permute(0, 2, 3, 1).contiguous()


class Downsample(nn.Module):
    """A 2×2 convolution of stride 2 on channels-last maps: (B, H, W, dim) to (B, H // 2, W // 2, out_dim)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, out_dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def resize_position_embedding(embedding: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize position embeddings (1, h, w, C) to a token grid of ``size``, bicubically as in the authors' code.

    Embeddings that already have this size are returned without a copy.
    """
    if tuple(embedding.shape[1:3]) == tuple(size):
        return embedding
    resized = F.interpolate(embedding.permute(0, 3, 1, 2), size=size, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)
