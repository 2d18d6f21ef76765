"""The architecture of a VOLO, and the table of all named sizes.

Sources: VOLO, arXiv:2106.13112, table 2 (D1 to D5). The other sizes are this project's: ``volo_d0`` for
ordinary photos on small machines, ``volo_small_32``, ``volo_tiny_32`` and ``volo_micro_32`` for images of 32 pixels.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from volo.limits import LONGEST_SIDE, MOST_CHANNELS, MOST_OUTPUTS, is_count, is_number, short_repr
from volo.messages import nearest

#: Field → the number of its integers, and the largest one. The limits are far above any useful model: a description
#: from elsewhere must not fill the memory before it is compared with the weights.
_LISTS = {"img_size": (2, LONGEST_SIDE), "dims": (2, 65_536), "depths": (4, 100), "heads": (2, 1_024)}
#: The same for fields of one integer.
_COUNTS = {
    "in_chans": MOST_CHANNELS,
    "patch_size": 1_024,
    "stem_width": 16_384,
    "class_depth": 100,
    "outlook_kernel": 31,
    "outlook_stride": 64,
}
_MOST_MLP_RATIO, _MOST_INIT_STD = 64, 10


@dataclass(frozen=True, kw_only=True)
class VOLOConfig:
    """The architecture of a VOLO.

    Attributes:
        img_size: image size (height, width), in pixels, for which the position embeddings are built; the model also
            runs on other sizes.
        in_chans: channels of the image.
        num_classes: outputs of each of the two heads; 0 for a model without heads.
        patch_size: side of a stage-1 token in image pixels; the side of a stage-2 token is twice as long.
        stem_width: channels of the convolutional stem.
        dims: channels of the two stages.
        depths: blocks of the Outlooker stage, then of the three groups of transformer blocks.
        heads: attention heads of the two stages.
        mlp_ratio: hidden width of every MLP, divided by the block's width.
        class_depth: number of class-attention blocks.
        outlook_kernel: K, the side of an outlook window, odd.
        outlook_stride: distance between outlook windows, in stage-1 tokens.
        drop_path_rate: stochastic depth of the last block; the rate grows linearly from 0 over all blocks, the
            Outlookers included.
        drop_path_outlookers: apply stochastic depth to the Outlookers, too; the default is False, as in the authors'
            training.
        pos_drop_rate: dropout after the position embedding (the authors' ``drop_rate``).
        attn_drop_rate: dropout of attention weights.
        init_std: standard deviation of the linear layers' initial weights. The paper's 0.02 suits its widths; None
            means 1 / sqrt(inputs) for each layer, which lets the small sizes learn faster.
    """

    img_size: tuple[int, int] = (224, 224)
    in_chans: int = 3
    num_classes: int = 1000
    patch_size: int = 8
    stem_width: int = 64
    dims: tuple[int, int] = (192, 384)
    depths: tuple[int, int, int, int] = (4, 4, 8, 2)
    heads: tuple[int, int] = (6, 12)
    mlp_ratio: float = 3.0
    class_depth: int = 2
    outlook_kernel: int = 3
    outlook_stride: int = 2
    drop_path_rate: float = 0.0
    drop_path_outlookers: bool = False
    pos_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    init_std: float | None = 0.02

    def __post_init__(self) -> None:
        for name, (length, most) in _LISTS.items():
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != length or not all(is_count(item, most) for item in value):
                raise ValueError(f"{name} must be {length} positive integers up to {most:,}, not {short_repr(value)}")
        for name, most in _COUNTS.items():
            value = getattr(self, name)
            if not is_count(value, most):
                raise ValueError(f"{name} must be a positive integer up to {most:,}, not {short_repr(value)}")
        if self.num_classes != 0 and not is_count(self.num_classes, MOST_OUTPUTS):
            raise ValueError(
                f"num_classes must be an integer from 0 to {MOST_OUTPUTS:,}, not {short_repr(self.num_classes)}"
            )
        for name in ("drop_path_rate", "pos_drop_rate", "attn_drop_rate"):
            value = getattr(self, name)
            if not is_number(value, 0, 1) or value == 1:
                raise ValueError(f"{name} must lie in [0, 1), not {short_repr(value)}")
        if not isinstance(self.drop_path_outlookers, bool):
            raise ValueError(f"drop_path_outlookers must be True or False, not {short_repr(self.drop_path_outlookers)}")
        if not is_number(self.mlp_ratio, 0, _MOST_MLP_RATIO) or not self.mlp_ratio * min(self.dims) >= 1:
            raise ValueError(
                f"mlp_ratio must be a positive number up to {_MOST_MLP_RATIO}, not {short_repr(self.mlp_ratio)}"
            )
        if self.init_std is not None and not (is_number(self.init_std, 0, _MOST_INIT_STD) and self.init_std > 0):
            raise ValueError(
                f"init_std must be None or a positive number up to {_MOST_INIT_STD}, not {short_repr(self.init_std)}"
            )
        if self.patch_size % 2:
            raise ValueError(f"patch_size must be even (the stem halves the image), not {self.patch_size}")
        if self.outlook_kernel % 2 == 0:
            raise ValueError(f"outlook_kernel must be odd, not {self.outlook_kernel}")
        for dim, heads in zip(self.dims, self.heads, strict=True):
            if dim % heads:
                raise ValueError(f"dims {self.dims} must be multiples of heads {self.heads}")
        if min(self.img_size) < 2 * self.patch_size:
            raise ValueError(f"img_size must be at least {2 * self.patch_size} pixels a side, not {self.img_size}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VOLOConfig":
        """Build a configuration from JSON values; lists become tuples.

        Raises:
            ValueError: A key is unknown (the message suggests the most similar one), or a value is not allowed.
        """
        if not isinstance(values, dict):
            raise ValueError(f"the architecture must be settings by name, not {short_repr(values)}")
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"unknown model argument {short_repr(key)}{nearest(key, known)}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)


_D1 = VOLOConfig()
_D2 = VOLOConfig(dims=(256, 512), heads=(8, 16), depths=(6, 4, 10, 4))
_D3 = VOLOConfig(dims=(256, 512), heads=(8, 16), depths=(8, 8, 16, 4))
_D4 = VOLOConfig(dims=(384, 768), heads=(12, 16), depths=(8, 8, 16, 4))
_D5 = VOLOConfig(dims=(384, 768), heads=(12, 16), depths=(12, 12, 20, 4), mlp_ratio=4.0, stem_width=128)
_D0 = VOLOConfig(dims=(128, 256), heads=(4, 8), depths=(3, 3, 5, 2), stem_width=32)
_32 = VOLOConfig(img_size=(32, 32), patch_size=4, num_classes=10, init_std=None)
_SMALL = replace(_32, dims=(128, 224), heads=(4, 7), depths=(4, 1, 2, 1))
_TINY = replace(_32, patch_size=2, dims=(64, 128), heads=(2, 4), depths=(3, 1, 4, 1), stem_width=32)
_MICRO = replace(_32, dims=(64, 128), heads=(2, 4), depths=(2, 1, 1, 1), stem_width=32)


def _at(config: VOLOConfig, size: int) -> VOLOConfig:
    return replace(config, img_size=(size, size))


#: Name → configuration. A name without its image size, such as ``volo_d1``, means the first row of this name.
VARIANTS: dict[str, VOLOConfig] = {
    "volo_micro_32": _MICRO,
    "volo_tiny_32": _TINY,
    "volo_small_32": _SMALL,
    "volo_d0_224": _D0,
    "volo_d1_224": _D1,
    "volo_d1_384": _at(_D1, 384),
    "volo_d2_224": _D2,
    "volo_d2_384": _at(_D2, 384),
    "volo_d3_224": _D3,
    "volo_d3_448": _at(_D3, 448),
    "volo_d4_224": _D4,
    "volo_d4_448": _at(_D4, 448),
    "volo_d5_224": _D5,
    "volo_d5_448": _at(_D5, 448),
    "volo_d5_512": _at(_D5, 512),
}
