"""Registration of VOLOs as encoders of segmentation-models-pytorch. Needs the extra ``volo[segment]``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin  # its documentation imports it from here
from torch import Tensor

from volo.models.config import VARIANTS
from volo.models.factory import create_model
from volo.models.pyramid import STRIDES, Pyramid
from volo.models.segmentation import smp_features
from volo.models.weights.load import load_weights
from volo.models.weights.published import WEIGHTS
from volo.models.weights.read import ANCHOR


def register_with_smp() -> list[str]:
    """Register VOLOs as encoders of segmentation-models-pytorch: ``smp.Unet("volo_d1", …)``.

    The names are those of :func:`volo.list_models`, with and without image size. ``encoder_weights=None`` gives fresh
    weights; ``"imagenet"`` downloads the published weights, if there are any, in the library's usual way. A VOLO has no
    map of stride 2: the decoders get an empty map, as from the library's own transformers. Another call changes
    nothing.

    Returns:
        The registered names.
    """
    names = {**{name.rpartition("_")[0]: name for name in reversed(VARIANTS)}, **{name: name for name in VARIANTS}}
    for name, variant in names.items():
        row = next((row for row in WEIGHTS.values() if row.model == variant), None)
        weights = {"imagenet": {"repo_id": row.repo, "revision": None}} if row else {}
        encoders[name] = {"encoder": VOLOEncoder, "params": {"name": variant}, "pretrained_settings": weights}
    return list(names)


class VOLOEncoder(Pyramid, EncoderMixin):
    """A pyramid with the interface of segmentation-models-pytorch's encoders."""

    def __init__(self, name: str, depth: int = 5, output_stride: int = STRIDES[-1]) -> None:
        super().__init__(create_model(name, num_classes=0))
        self._depth, self._in_channels, self._output_stride = depth, 3, output_stride
        self._out_channels = [3, 0, *self.channels]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the images, an empty map of stride 2 and the maps of the pyramid; ``depth`` maps in total."""
        return smp_features(images, super().forward(images))[: self._depth + 1]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        super().set_in_channels(in_channels, pretrained)
        self.volo.config = replace(self.volo.config, in_chans=in_channels)

    def make_dilated(self, output_stride: int) -> None:
        raise ValueError(
            f"a VOLO cannot be dilated to an output stride of {output_stride}: choose a decoder that does not dilate"
        )

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """Load an encoder's weights, or a classifier's without its heads."""
        if ANCHOR not in state_dict:
            return super().load_state_dict(state_dict, *arguments, **options)
        volo = load_weights(state_dict, self.config, ema=None, new_heads=True, class_names=None)
        volo.keep_feature_maps()
        return self.volo.load_state_dict(volo.state_dict())
