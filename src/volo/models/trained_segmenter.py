"""A trained segmentation model with what one must know to use it, saved and loaded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volo.models.deliverable import CONFIG_FILE, FORMAT_VERSION, SEGMENTATION, Description, save_pair
from volo.models.loading import Source, find
from volo.models.segmentation import BACKBONE, SegmentationConfig, SegmentationModel
from volo.models.sources import Checkpoint
from volo.names import few

#: Red, green and blue, 0–255.
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class TrainedSegmenter:
    """A segmentation model and what one must know to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: what its outputs mean, in order.
        class_colours: (red, green, blue) of each class, 0–255.
        ignore_index: the index of pixels that counted for nothing.
        preprocessing: the fields of :class:`volo.data.Preprocessing`; ``size`` is the crop that it was trained on.
        short_side: pixels along the shorter side of the images that it was trained on, before they were scaled at
            random; others are resized to it. None takes images as they are.
    """

    model: SegmentationModel
    class_names: tuple[str, ...]
    class_colours: tuple[Colour, ...]
    ignore_index: int
    preprocessing: dict[str, Any]
    short_side: int | None


def save_segmenter(
    folder: Path,
    config: SegmentationConfig,
    weights: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...],
    class_colours: tuple[Colour, ...],
    ignore_index: int,
    preprocessing: dict[str, Any],
    short_side: int | None,
) -> None:
    """Write ``weights``, a :class:`SegmentationModel`'s state dict, and what describes them, both or none.

    Raises:
        ValueError: there is not one name and one colour for each class. OSError: they cannot be written.
    """
    if not len(class_names) == len(class_colours) == config.num_classes:
        raise ValueError(
            f"{config.num_classes} classes need as many names and colours, not {len(class_names)} and "
            f"{len(class_colours)}"
        )
    description = {
        "format_version": FORMAT_VERSION,
        "task": SEGMENTATION,
        "architecture": asdict(config.backbone),
        SEGMENTATION: {
            "num_classes": config.num_classes,
            "decoder": config.decoder,
            "decoder_channels": config.decoder_channels,
            "class_colours": [f"#{bytes(colour).hex()}" for colour in class_colours],
            "ignore_index": ignore_index,
            "short_side": short_side,
        },
        "class_names": class_names,
        "preprocessing": preprocessing,
    }
    save_pair(folder, weights, description)


def load_segmenter(source: Source) -> TrainedSegmenter:
    """Load a trained segmentation model with all that is known of its use.

    Args:
        source: a run folder, ``hf-hub:org/name``, or what else holds ``model.safetensors`` beside ``config.json``.

    Raises:
        ValueError: the source cannot be found or read, is a classifier, or is damaged, in one line that says why.
    """
    found = find(source)
    origin, described = found.checkpoint.origin, found.description
    if described is None or described.segmentation is None or described.config is None:
        raise ValueError(
            f"{origin} is no segmentation model; volo.Predictor uses classifiers, volo.load_model reads them"
        )
    more = described.segmentation
    try:
        config = described_config(described)
        colours = tuple(_colour(text) for text in more["class_colours"])
        ignore_index, short_side = int(more["ignore_index"]), more["short_side"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{CONFIG_FILE} of {origin} does not describe a segmentation model: {error}") from error
    return TrainedSegmenter(
        model=_build(config, found.checkpoint),
        class_names=described.class_names or (),
        class_colours=colours,
        ignore_index=ignore_index,
        preprocessing=described.preprocessing or {},
        short_side=short_side,
    )


def described_config(described: Description) -> SegmentationConfig:
    """The architecture of a description of a segmentation model. Raises KeyError or ValueError where it has none."""
    assert described.config is not None
    assert described.segmentation is not None
    fields = ("num_classes", "decoder", "decoder_channels")
    return SegmentationConfig(backbone=described.config, **{key: described.segmentation[key] for key in fields})


def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def _build(config: SegmentationConfig, checkpoint: Checkpoint) -> SegmentationModel:
    """A model around the weights, which become its parameters: nothing is initialised, nothing copied."""
    with torch.device("meta"):
        model = SegmentationModel(config)
    expected = model.state_dict()
    # What reads files has taken away all that stands before the VOLO's own names.
    there = {name: checkpoint.weights.get(name.removeprefix(BACKBONE)) for name in expected}
    wrong = [name for name, tensor in there.items() if tensor is None or tensor.shape != expected[name].shape]
    if wrong or len(checkpoint.weights) != len(expected):
        what = f"lacks {few(wrong)}" if wrong else f"has {len(checkpoint.weights) - len(expected)} others"
        raise ValueError(
            f"{checkpoint.origin} does not fit the architecture in {CONFIG_FILE}: of its tensors it {what}"
        )
    weights = {name: tensor.to(expected[name].dtype) for name, tensor in there.items() if tensor is not None}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()
