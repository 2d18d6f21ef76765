"""A VOLO as a backbone of four feature maps, for decoders of dense prediction.

Shape letters: B batch, H W image, C1 C2 channels of VOLO's stages.
"""

from torch import Tensor, nn

from volo.models.config import VOLOConfig
from volo.models.volo import VOLO

#: Stride of each map, in image pixels.
STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """A VOLO as a backbone: images (B, in_chans, H, W) to maps of strides 4, 8, 16 and 32.

    In the paper's sizes, the maps of strides 8 and 16 are VOLO's own, each after a LayerNorm; the second LayerNorm is
    the classifier's last one, which pretrained weights contain. A transposed 2×2 convolution of stride 2 computes the
    finer map, and a 2×2 convolution of stride 2 the coarser one. The small sizes have smaller tokens and need more of
    these convolutions downwards; each one after the first follows a BatchNorm and a GELU.

    Source: BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, section 3) compute a pyramid from the single map of a
    plain transformer with transposed convolutions. They pool for stride 32; here it is a learned convolution, as
    between the stages of VOLO and Swin (arXiv:2103.14030). The VOLO paper does not describe the authors' pyramid.

    Args:
        volo: the network; the parts that no map depends on are removed from it.

    Attributes:
        volo: the network.
        strides: stride of each map, in image pixels.
        channels: channels of each map: C1 up to the stride of VOLO's first map, C2 beyond.

    Raises:
        ValueError: The patch size is not 2, 4, 8 or 16.
    """

    def __init__(self, volo: VOLO) -> None:
        super().__init__()
        fine, coarse = volo.feature_strides
        if fine not in (2, 4, 8, 16):
            raise ValueError(f"maps of strides 4, 8, 16 and 32 need a patch_size of 2, 4, 8 or 16, not {fine}")
        volo.keep_feature_maps()
        self.volo = volo
        self.strides = STRIDES
        self.channels = tuple(volo.feature_channels[stride > fine] for stride in STRIDES)
        self.fine_norm = nn.LayerNorm(volo.feature_channels[0]) if fine in STRIDES else None
        self.up = _steps(nn.ConvTranspose2d, volo.feature_channels[0], sum(stride < fine for stride in STRIDES))
        self.down = _steps(nn.Conv2d, volo.feature_channels[1], sum(stride > coarse for stride in STRIDES))

    @property
    def config(self) -> VOLOConfig:
        """The architecture of the VOLO."""
        return self.volo.config

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute maps (B, C, H/s, W/s) for the strides s from images (B, in_chans, H, W).

        H and W must be multiples of 32.
        """
        fine, coarse = self.volo.forward_feature_maps(images)
        maps = [_normalized(self.volo.norm, coarse)]
        if self.fine_norm is not None:
            maps.insert(0, _normalized(self.fine_norm, fine))
        for step in self.up:
            maps.insert(0, step(maps[0]))
        for step in self.down:
            maps.append(step(maps[-1]))
        return maps


def _normalized(norm: nn.LayerNorm, channels_first: Tensor) -> Tensor:
    """Apply LayerNorm over the channels of a map (B, C, h, w) in channels-last memory."""
    return norm(channels_first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _steps(convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: int, count: int) -> nn.ModuleList:
    """Build ``count`` modules, each of which doubles or halves the resolution of the previous map."""
    first = [convolution(channels, channels, kernel_size=2, stride=2)]
    others = [
        nn.Sequential(nn.BatchNorm2d(channels), nn.GELU(), convolution(channels, channels, kernel_size=2, stride=2))
        for _ in range(count - 1)
    ]
    return nn.ModuleList([*first, *others] if count else [])
