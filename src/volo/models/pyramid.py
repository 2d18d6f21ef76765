"""VOLO's two maps as the four that decoders of dense prediction read.

Shape letters: B batch, H W image, C1 C2 channels of VOLO's stages.
"""

from torch import Tensor, nn

from volo.models.config import VOLOConfig
from volo.models.volo import VOLO

#: Image pixels along a position of each map.
STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """A VOLO as a backbone: images (B, in_chans, H, W) to maps at strides 4, 8, 16 and 32.

    In the paper's sizes VOLO's own maps are those of strides 8 and 16, each behind a LayerNorm (the second behind the
    one that stands before the classifier's heads, which comes with trained weights). A transposed 2×2 convolution of
    stride 2 makes the finer map and a 2×2 convolution of stride 2 the coarser one; the small sizes, whose tokens are
    smaller, take more steps down, each behind BatchNorm and GELU.

    Source: transposed convolutions are how BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, section 3) make a
    pyramid of a plain transformer's one map; they pool for stride 32, where a convolution that learns is taken here,
    as VOLO itself and Swin (arXiv:2103.14030) do between their stages. The paper does not say what its authors did.

    Args:
        volo: the network; what no map depends on is removed from it.

    Attributes:
        volo: see above.
        strides: image pixels along a position of each map.
        channels: of each map: C1 up to the stride of VOLO's first map, C2 beyond.

    Raises:
        ValueError: the patch size is none of 2, 4, 8 and 16.
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
        """Images (B, in_chans, H, W), both sides multiples of 32, to maps (B, C, H/s, W/s) for the strides s."""
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
    """LayerNorm over the channels of (B, C, h, w), whose memory is channels-last."""
    return norm(channels_first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _steps(convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: int, count: int) -> nn.ModuleList:
    """``count`` steps to maps of twice, or half, the resolution, each from the one before it."""
    first = [convolution(channels, channels, kernel_size=2, stride=2)]
    others = [
        nn.Sequential(nn.BatchNorm2d(channels), nn.GELU(), convolution(channels, channels, kernel_size=2, stride=2))
        for _ in range(count - 1)
    ]
    return nn.ModuleList([*first, *others] if count else [])
