"""Creation of models by name."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from volo.messages import nearest
from volo.models.config import VARIANTS, VOLOConfig
from volo.models.segmentation import SegmentationConfig, SegmentationModel, check_decoder
from volo.models.volo import VOLO
from volo.models.weights.load import Source, load_weights
from volo.models.weights.published import weights_name


def list_models() -> list[str]:
    """Return the names for :func:`create_model`, the smallest model first."""
    return list(VARIANTS)


def model_config(name: str) -> VOLOConfig:
    """Return the configuration of a named model; ``volo_d1`` without image size means the smallest one.

    Raises:
        ValueError: The name is unknown; the message suggests the most similar one.
    """
    for full in VARIANTS:
        if name in (full, full.rpartition("_")[0]):
            return VARIANTS[full]
    raise ValueError(f"unknown model {name!r}{nearest(name, VARIANTS)}")


def create_model(
    name: str,
    *,
    pretrained: bool | Source = False,
    ema: bool | None = None,
    class_names: Sequence[str] | None = None,
    img_size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> VOLO:
    """Build a VOLO with fresh weights, or with pretrained weights that are adapted to the arguments.

    Pretrained position embeddings are resized to ``img_size``, the patch projection is resampled to ``patch_size``, and
    the first convolution is adapted to ``in_chans``. Fresh heads replace heads of another number of classes if
    ``num_classes`` is given, and heads of other classes if ``class_names`` is given and the class names of the weights
    are known. Each change is logged. Any other mismatch is an error.

    Args:
        name: one of :func:`list_models`, also without its image size, or with the ``.tag`` of its weights.
        pretrained: False for fresh weights; True for the published or shipped weights of this name; or a source of
            weights: a name with tag, a file, a run folder, ``hf-hub:org/name``, a URL, a module or a state dict.
        ema: for sources that also hold weights averaged over the training steps: True takes the averaged weights,
            False the last ones; None takes the averaged weights if there are any.
        class_names: the class of each output, in order; sets ``num_classes``.
        img_size: image size for which the position embeddings are built, in pixels: a side, or (height, width).
        **overrides: any fields of :class:`volo.models.VOLOConfig`, such as ``num_classes``, ``in_chans`` or
            ``drop_path_rate``.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: The name or an argument is unknown (the message suggests the most similar one), a value is not
            allowed, or the weights cannot be found, read, or adapted to the model.
    """
    model_name, _, tag = name.partition(".")
    if tag:
        weights_name(name)  # raises for an unknown tag, even if other weights are loaded
    if class_names is not None:
        overrides["num_classes"] = len(class_names)
    if img_size is not None:
        overrides["img_size"] = img_size if isinstance(img_size, tuple) else (img_size, img_size)
    config = VOLOConfig.from_dict({**asdict(model_config(model_name)), **overrides})
    if pretrained is False:
        if ema is not None:
            raise ValueError("ema selects among pretrained weights; give pretrained, too")
        return VOLO(config)
    source = weights_name(name) if pretrained is True else pretrained
    return load_weights(source, config, ema=ema, new_heads="num_classes" in overrides, class_names=class_names)


def create_segmenter(
    name: str,
    *,
    num_classes: int,
    decoder: str = "upernet",
    decoder_channels: int | None = None,
    pretrained: bool | Source = False,
    ema: bool | None = None,
    **overrides: Any,
) -> SegmentationModel:
    """Build a segmentation model: a VOLO with fresh weights or a classifier's, and a fresh decoder.

    Args:
        name: name of the VOLO, as in :func:`volo.create_model`.
        num_classes: outputs for each pixel.
        decoder: one of ``DECODERS``, of segmentation-models-pytorch.
        decoder_channels: see :class:`SegmentationConfig`.
        pretrained: False for fresh weights, True for the published or shipped weights of this name, or a source of a
            classifier's weights: a file, a run folder, ``hf-hub:org/name``, a URL, a module or a state dict. The
            classifier's heads are left out.
        ema: see :func:`volo.create_model`.
        **overrides: ``img_size``, and fields of :class:`volo.models.VOLOConfig`.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: See :func:`volo.create_model`; or the decoder is unknown.
    """
    check_decoder(decoder, decoder_channels)
    volo = create_model(name, pretrained=pretrained, ema=ema, num_classes=0, **overrides)
    config = SegmentationConfig(
        backbone=volo.config, num_classes=num_classes, decoder=decoder, decoder_channels=decoder_channels
    )
    return SegmentationModel(config, volo)
