"""Models by name."""

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
    """The names that :func:`create_model` knows, smallest first."""
    return list(VARIANTS)


def model_config(name: str) -> VOLOConfig:
    """The configuration of a named model; ``volo_d1`` without a size means its smallest form.

    Raises:
        ValueError: the name is unknown; the message gives the nearest.
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
    """Build a VOLO with fresh weights, or with trained ones fitted to what is asked for.

    Position embeddings are resized to ``img_size``, the projection of patches is resampled to ``patch_size``, the first
    convolution is adapted to ``in_chans``, and heads of another class count are replaced by fresh ones where
    ``num_classes`` is given, and heads that were trained for other ``class_names`` wherever the weights tell theirs;
    each of these is logged. Anything else that does not fit is an error.

    Args:
        name: one of :func:`list_models`, or such a name without its size, or with the ``.tag`` of its weights.
        pretrained: False for fresh weights; True for those that have this name, published or in the package; or where
            they are: a name with its tag, a file, a run folder, ``hf-hub:org/name``, a web address, a module, a state
            dict.
        ema: of weights that are there averaged over the training steps as well: take these (True), the last ones
            (False), or the averaged ones where there are any (None).
        class_names: what the outputs are to mean, in order; gives ``num_classes``.
        img_size: pixels, a side or (height, width), for which the position embeddings are laid out.
        **overrides: fields of :class:`volo.models.VOLOConfig`: ``num_classes``, ``in_chans``,
            ``drop_path_rate`` and every other.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: the name or an argument is unknown (the message gives the nearest), a value is not allowed, or
            the weights cannot be found, read, or fitted to the model.
    """
    model_name, _, tag = name.partition(".")
    if tag:
        weights_name(name)  # an unknown tag is an error, whatever the weights
    if class_names is not None:
        overrides["num_classes"] = len(class_names)
    if img_size is not None:
        overrides["img_size"] = img_size if isinstance(img_size, tuple) else (img_size, img_size)
    config = VOLOConfig.from_dict({**asdict(model_config(model_name)), **overrides})
    if pretrained is False:
        if ema is not None:
            raise ValueError("ema chooses among trained weights; give pretrained as well")
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
    """Build a segmentation model with a fresh decoder, and a VOLO with fresh weights or a trained classifier's.

    Args:
        name: of the VOLO, as :func:`volo.create_model` takes it.
        num_classes: outputs for every pixel.
        decoder: one of ``DECODERS``, of segmentation-models-pytorch.
        decoder_channels: see :class:`SegmentationConfig`.
        pretrained: False for fresh weights, True for the published ones of this name, or where a classifier's are: a
            file, a run folder, ``hf-hub:org/name``, a web address, a module, a state dict. Its heads are left out.
        ema: see :func:`volo.create_model`.
        **overrides: ``img_size``, and fields of :class:`volo.models.VOLOConfig`.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: as :func:`volo.create_model`, and for a decoder that there is not.
    """
    check_decoder(decoder, decoder_channels)
    volo = create_model(name, pretrained=pretrained, ema=ema, num_classes=0, **overrides)
    config = SegmentationConfig(
        backbone=volo.config, num_classes=num_classes, decoder=decoder, decoder_channels=decoder_channels
    )
    return SegmentationModel(config, volo)
