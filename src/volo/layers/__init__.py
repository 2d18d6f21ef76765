"""The layers of a VOLO."""

from volo.layers.attention import Attention, ClassAttention, ClassBlock, Transformer
from volo.layers.drop import DropPath
from volo.layers.embed import Downsample, PatchEmbed, resize_position_embedding
from volo.layers.mlp import Mlp
from volo.layers.outlook import OutlookAttention, Outlooker

__all__ = [
    "Attention",
    "ClassAttention",
    "ClassBlock",
    "Downsample",
    "DropPath",
    "Mlp",
    "OutlookAttention",
    "Outlooker",
    "PatchEmbed",
    "Transformer",
    "resize_position_embedding",
]
