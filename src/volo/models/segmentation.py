"""Semantic segmentation with a VOLO. Building a model needs the extra ``volo[segment]``.

Shape letters: B batch, H W image, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.limits import MOST_OUTPUTS, is_count, short_repr
from volo.messages import nearest
from volo.models.config import VOLOConfig
from volo.models.pyramid import STRIDES, Pyramid
from volo.models.volo import VOLO

#: Decoder of segmentation-models-pytorch that can use the pyramid → the name of its setting for the width, or None.
#: The other decoders need a backbone that can be dilated (DeepLabV3, PAN) or a plain ViT (DPT), or do not use stage 2
#: (PSPNet).
DECODERS: Mapping[str, str | None] = {
    "upernet": "decoder_channels",
    "fpn": "decoder_pyramid_channels",
    "segformer": "decoder_segmentation_channels",
    "unet": None,
    "unetplusplus": None,
    "manet": None,
    "linknet": None,
}
#: Dropout of whole maps before the last convolution of both heads, as in mmsegmentation.
_DROPOUT = 0.1
#: Width of the maps of UPerNet and of the auxiliary head in the usual recipes.
_CHANNELS = 256
#: The largest width, far above any useful one: see the limits of :class:`VOLOConfig`.
_MOST_CHANNELS = 65_536


class SegmentationLogits(NamedTuple):
    """Logits (B, K, H, W) of the decoder, ``main``, and of the auxiliary head, ``aux``."""

    main: Tensor
    aux: Tensor


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """The architecture of a segmentation model.

    Attributes:
        backbone: the architecture of the VOLO, without heads; its ``img_size`` is the size of the training crops.
        num_classes: outputs for each pixel.
        decoder: one of ``DECODERS``.
        decoder_channels: width of the decoder's maps and of the auxiliary head. None means 256 for both; decoders
            without a setting for the width keep their own.
    """

    backbone: VOLOConfig
    num_classes: int
    decoder: str = "upernet"
    decoder_channels: int | None = None

    def __post_init__(self) -> None:
        if not is_count(self.num_classes, MOST_OUTPUTS) or self.num_classes < 2:
            raise ValueError(
                f"segmentation needs at least two classes and at most {MOST_OUTPUTS:,}, "
                f"not {short_repr(self.num_classes)}"
            )
        check_decoder(self.decoder, self.decoder_channels)


def check_decoder(decoder: str, channels: int | None) -> None:
    """Check the name of a decoder and its width.

    Raises:
        ValueError: The decoder is unknown, has no setting for the width, or the width is out of range.
    """
    if not isinstance(decoder, str) or decoder not in DECODERS:
        raise ValueError(f"unknown decoder {short_repr(decoder)}{nearest(str(decoder), DECODERS)}")
    if channels is not None and DECODERS[decoder] is None:
        raise ValueError(f"decoder {decoder} has maps of fixed widths: leave out decoder_channels")
    if channels is not None and not is_count(channels, _MOST_CHANNELS):
        raise ValueError(f"decoder_channels must be an integer of 1 to {_MOST_CHANNELS:,}, not {short_repr(channels)}")


class SegmentationModel(nn.Module):
    """A pyramid of a VOLO, a decoder of segmentation-models-pytorch, and an auxiliary head for training.

    Images are (B, in_chans, H, W), floating, normalized, of any height and width. They are padded at the right and at
    the bottom to multiples of 32, with zeros, which is the mean color; the logits are cropped to the size of the image.

    Logits are resized from the decoder's resolution to the image's with ``align_corners=False``, unlike in
    segmentation-models-pytorch: the logits of a pixel then do not depend on the size of the window around it.

    Attributes:
        config: the architecture.
        backbone: the pyramid.
        decoder: module from maps to features of every position.
        head: module from features to logits.
        aux_head: module from the map of stride 16 to logits, for the loss; one 3×3 convolution and a classifier, as in
            mmsegmentation's FCN head.

    Source: VOLO, arXiv:2106.13112, section 4.4 (UPerNet, arXiv:1807.10221); the authors' code for it is not public.
    """

    def __init__(self, config: SegmentationConfig, volo: VOLO | None = None) -> None:
        """Build the model around ``volo``, or around a new network of ``config.backbone``."""
        super().__init__()
        self.config = config
        self.backbone = Pyramid(volo or VOLO(config.backbone))
        self.decoder, last = _decoder_and_head(config, self.backbone.channels)
        self.head = nn.Sequential(nn.Dropout2d(_DROPOUT), last)
        width = config.decoder_channels or _CHANNELS
        self.aux_head = nn.Sequential(
            nn.Conv2d(self.backbone.channels[STRIDES.index(16)], width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout2d(_DROPOUT),
            nn.Conv2d(width, config.num_classes, kernel_size=1),
        )

    @property
    def num_classes(self) -> int:
        """Outputs for each pixel."""
        return self.config.num_classes

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters to train without weight decay, beside those of one dimension."""
        return {"backbone.volo.pos_embed"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable or disable gradient checkpointing in the VOLO: see :meth:`VOLO.set_grad_checkpointing`."""
        self.backbone.volo.set_grad_checkpointing(enable)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, K, H, W) from images (B, in_chans, H, W)."""
        return self._decode(*self._maps(images), images.shape[2:])

    def forward_with_aux(self, images: Tensor) -> SegmentationLogits:
        """Compute the logits of the decoder and of the auxiliary head from images (B, in_chans, H, W), for training."""
        padded, maps = self._maps(images)
        aux = _resized(self.aux_head(maps[STRIDES.index(16)]), padded, images.shape[2:])
        return SegmentationLogits(self._decode(padded, maps, images.shape[2:]), aux)

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the images, padded to multiples of the coarsest stride, and their maps."""
        if images.ndim != 4:
            raise ValueError(f"images must be (B, {self.config.backbone.in_chans}, H, W), not {tuple(images.shape)}")
        bottom, right = (-side % STRIDES[-1] for side in images.shape[2:])
        padded = F.pad(images, (0, right, 0, bottom)) if bottom or right else images
        return padded, self.backbone(padded)

    def _decode(self, padded: Tensor, maps: list[Tensor], size: torch.Size) -> Tensor:
        return _resized(self.head(self.decoder(smp_features(padded, maps))), padded, size)


#: Prefix of the VOLO's names in the state dict of a segmentation model.
BACKBONE = "backbone.volo."


def backbone_of(model: VOLO | SegmentationModel) -> VOLO:
    """Return the VOLO of a model of either task."""
    return model if isinstance(model, VOLO) else model.backbone.volo


def smp_features(images: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Return the inputs of segmentation-models-pytorch's decoders: the images, an empty map of stride 2, the maps."""
    batch, _, height, width = images.shape
    return [images, images.new_empty(batch, 0, height // 2, width // 2), *maps]


def _resized(logits: Tensor, padded: Tensor, size: torch.Size) -> Tensor:
    """Resize logits to the size of the padded images, and crop them to ``size``, the size before padding."""
    if logits.shape[2:] != padded.shape[2:]:
        logits = F.interpolate(logits, padded.shape[2:], mode="bilinear", align_corners=False)
    return logits if padded.shape[2:] == size else logits[..., : size[0], : size[1]]


class _Channels(nn.Module):
    """The attributes of an encoder that segmentation-models-pytorch reads to build a decoder."""

    output_stride = STRIDES[-1]

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = [3, 0, *channels]

    def set_in_channels(self, *_: Any, **__: Any) -> None:
        """Ignore the number of image channels: the decoders do not use the image."""


def _decoder_and_head(config: SegmentationConfig, channels: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Build a decoder for maps of ``channels``, and the convolution from its features to the logits."""
    import segmentation_models_pytorch as smp

    width = DECODERS[config.decoder]
    options = {width: config.decoder_channels or _CHANNELS} if width else {}
    encoders, name = smp.encoders.encoders, "temporary volo encoder"
    # Models of segmentation-models-pytorch find their encoder by name; an entry in this dict is its documented way to
    # add one.
    encoders[name] = {"encoder": lambda **_: _Channels(channels), "params": {}, "pretrained_settings": {}}
    try:
        model = smp.create_model(config.decoder, name, encoder_weights=None, classes=config.num_classes, **options)
    finally:
        del encoders[name]
    return model.decoder, model.segmentation_head[0]
