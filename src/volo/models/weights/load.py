"""A trained model from wherever its weights are: a run, a file of anybody's, the hub, a web address, an object."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.color import parse_color, stored_colors
from volo.imagenet import GRAY_MEAN, GRAY_STD, imagenet_names
from volo.messages import join_few, nearest
from volo.models.config import VOLOConfig
from volo.models.segmentation import BACKBONE, SegmentationConfig, SegmentationModel
from volo.models.volo import VOLO
from volo.models.weights.adapt import adapt, build
from volo.models.weights.identify import Identity, identify
from volo.models.weights.model_folder import (
    CLASSIFICATION,
    MODEL_CONFIG_FILE,
    SEGMENTATION,
    WEIGHTS_FILES,
    ModelDescription,
    described_config,
    read_description,
)
from volo.models.weights.published import WEIGHTS, PublishedWeights, shipped_weights
from volo.models.weights.read import Checkpoint, from_object, read_checkpoint
from volo.models.weights.trained import TrainedModel, TrainedSegmenter

#: What stands before the name of a repository of the Hugging Face hub.
HUB = "hf-hub:"

_log = logging.getLogger("volo")

#: Where weights may come from: a path, a name of published weights, ``hf-hub:org/name``, an address, or an object.
Source = str | Path | nn.Module | Mapping[str, Tensor]


def usual_crop(img_size: tuple[int, int]) -> float:
    """The paper's center crop for photos, the whole image where there are few pixels."""
    return 0.96 if min(img_size) >= 128 else 1.0


@dataclass(frozen=True)
class LocatedCheckpoint:
    """A checkpoint, and what stands beside it: its description, or its row in the table of published weights."""

    checkpoint: Checkpoint
    description: ModelDescription | None = None
    published: PublishedWeights | None = None

    @property
    def architecture(self) -> VOLOConfig | None:
        """The architecture, where the description has it."""
        return self.description.config if self.description else None


def locate(source: Source, *, ema: bool | None = None) -> LocatedCheckpoint:
    """Find and read weights, without saying yet whether they are a VOLO's.

    Args:
        source: a file; a folder with ``model.safetensors`` and ``config.json``; ``hf-hub:org/name``, with
            ``@revision`` where one is pinned; a web address; the name of published weights; a module; a state dict.
        ema: see :func:`volo.models.weights.read.read_checkpoint`.

    Raises:
        ValueError: there is nothing of this kind, or it cannot be read.
    """
    if not isinstance(source, str | Path):
        return LocatedCheckpoint(from_object(source, ema=ema))
    try:
        path, published = _locate(source)
        return LocatedCheckpoint(read_checkpoint(path, ema=ema), _described(path), published)
    except OSError as error:
        raise ValueError(f"{error.filename or source} cannot be read: {error.strerror or error}") from error


def task_of(source: Source) -> str:
    """What a trained model does, classification or segmentation, by the description beside its weights alone.

    Raises:
        ValueError: there is nothing of this kind, or the description cannot be read.
    """
    if not isinstance(source, str | Path):
        return CLASSIFICATION
    try:
        described = _described(_locate(source)[0])
    except OSError as error:
        raise ValueError(f"{error.filename or source} cannot be read: {error.strerror or error}") from error
    return described.task if described else CLASSIFICATION


def load_model(source: Source, *, ema: bool | None = None) -> TrainedModel:
    """Load a trained model with all that is known of its use.

    The architecture is what the weights' shapes and, where there is one, the description beside them tell. Classes
    without names are called by ImageNet's names where there are 1,000 of them, else by their numbers.

    Args:
        source: a run folder, or any other source of :func:`volo.models.weights.load.locate`.
        ema: of a file that has them, the weights averaged over the training steps (True), or not; None: if it has.

    Raises:
        ValueError: the source cannot be found or read, holds no VOLO, or is damaged, in one line that says why.
    """
    found = locate(source, ema=ema)
    checkpoint, described = found.checkpoint, found.description
    identity = _identify(found)
    if not identity.certain:
        raise ValueError(
            f"{checkpoint.origin} is {identity.name}, and no tensor shows its number of heads: give a folder with "
            f"{MODEL_CONFIG_FILE}, or create_model(NAME, heads=(…), …, pretrained=…)"
        )
    config = identity.config
    weights, notes = adapt(checkpoint.weights, identity, config, origin=checkpoint.origin, new_heads=False)
    names = described.class_names if described else None
    if names is None:
        names = imagenet_names() if config.num_classes == 1000 else tuple(map(str, range(config.num_classes)))
        notes.append(f"classes are called by {'ImageNet’s names' if config.num_classes == 1000 else 'their numbers'}")
    elif len(names) != config.num_classes:
        raise ValueError(
            f"{checkpoint.origin} has {config.num_classes} classes, {MODEL_CONFIG_FILE} names {len(names)}"
        )
    report(checkpoint, notes)
    return TrainedModel(
        model=build(config, weights).eval(),
        class_names=names,
        preprocessing=_preprocessing(found, identity, config),
    )


def from_pretrained(source: str | Path, *, revision: str | None = None) -> TrainedModel:
    """Load a trained model by the hub's habits: a folder or a file where there is one, else ``org/name`` of the hub.

    Args:
        source: a path, ``org/name``, or any other source of :func:`load_model`.
        revision: branch, tag or commit of a repository of the hub; None means the main branch.

    Raises:
        ValueError: see :func:`load_model`.
    """
    here, named = Path(source).exists(), re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is not None
    if revision and (here or not named):
        raise ValueError(f"{source} has no revision {revision!r}: only org/name of the hub has revisions")
    if here or not named:
        return load_model(source)
    try:
        return load_model(f"{HUB}{source}@{revision}" if revision else f"{HUB}{source}")
    except ValueError as error:
        raise ValueError(f"there is no folder {source}, and on the hub: {error}") from error


def load_weights(
    source: Source, config: VOLOConfig, *, ema: bool | None, new_heads: bool, class_names: Sequence[str] | None
) -> VOLO:
    """A ``config`` model with the weights of ``source`` fitted to it; what was done to them is logged in one line.

    ``class_names``, where given, are what its outputs are to mean; the other arguments: see :func:`adapt`.

    Raises:
        ValueError: see :func:`locate` and :func:`volo.models.weights.adapt.adapt`.
    """
    found = locate(source, ema=ema)
    checkpoint, identity = found.checkpoint, _identify(found)
    weights, notes = adapt(
        checkpoint.weights,
        identity,
        config,
        origin=checkpoint.origin,
        new_heads=new_heads,
        other_classes=_others(found.description, class_names),
    )
    report(checkpoint, notes)
    return build(config, weights)


def _others(description: ModelDescription | None, class_names: Sequence[str] | None) -> bool:
    """Whether weights are described with other classes than ``class_names``; ImageNet's 1000 go by several names."""
    theirs = description.class_names if description else None
    if theirs is None or class_names is None or len(theirs) == len(class_names) == 1000:
        return False
    return theirs != tuple(class_names)


def report(checkpoint: Checkpoint, notes: list[str]) -> None:
    """Log, in one line, what was chosen and changed; without a logging configuration it goes to standard error."""
    said = [checkpoint.choice, *notes] if checkpoint.choice else notes
    if said:
        _log.warning("%s: %s", checkpoint.origin, "; ".join(said))


def _locate(source: str | Path) -> tuple[Path, PublishedWeights | None]:
    """The file of weights that a source means."""
    text = str(source)
    if text.startswith(HUB):
        from volo.models.weights.hub import fetch  # the hub's client takes long to import, and a file needs none

        published = WEIGHTS.get(text.removeprefix(f"{HUB}timm/").partition("@")[0])
        return _file_in(fetch(text.removeprefix(HUB))), published
    if text.startswith(("http:/", "https:/", "file:/")):
        from volo.models.weights.hub import fetch_url

        return fetch_url(text), next((row for row in WEIGHTS.values() if row.url == text), None)
    path = Path(source)
    if path.is_dir():
        return _file_in(path, described=True), None
    if text.startswith("volo") and path.parent == Path() and not path.is_symlink() and not path.exists():
        return _named(text)
    return path, None


def _named(name: str) -> tuple[Path, PublishedWeights | None]:
    """The file of weights of a name, with its tag or without."""
    shipped = shipped_weights()
    known = {alias: full for full in (*WEIGHTS, *shipped) for alias in (full.partition(".")[0], full)}
    full = known.get(name)
    if full is None:
        raise ValueError(f"{name} is no file or folder, and no weights are published as {name!r}{nearest(name, known)}")
    if full in shipped:
        return _file_in(shipped[full]), None
    from volo.models.weights.hub import fetch  # the hub's client takes long to import, and a file needs none

    return _file_in(fetch(WEIGHTS[full].repo)), WEIGHTS[full]


def _described(path: Path) -> ModelDescription | None:
    """The description beside a file that is known to belong to it: not every ``config.json`` of a folder does."""
    home = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if (path.name in WEIGHTS_FILES or home != path.parent) and (home / MODEL_CONFIG_FILE).is_file():
        return read_description(home / MODEL_CONFIG_FILE)
    return None


def _file_in(folder: Path, *, described: bool = False) -> Path:
    if described and not (folder / MODEL_CONFIG_FILE).is_file():
        raise ValueError(
            f"{folder} is no trained model: {folder / MODEL_CONFIG_FILE} does not exist; give a run folder, or a file"
        )
    for name in WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"{folder} is no trained model: {folder / WEIGHTS_FILES[0]} does not exist; give a run folder, or a file"
    )


def _identify(found: LocatedCheckpoint) -> Identity:
    """What the weights are; an error where they are not what is described beside them."""
    weights, origin = found.checkpoint.weights, found.checkpoint.origin
    if found.description and found.description.task == SEGMENTATION:
        raise ValueError(
            f"{origin} is a segmentation model, not a classifier; volo.Segmenter uses it, volo.load_segmenter reads it"
        )
    identity = identify(weights, origin, described=found.architecture)
    if found.architecture and identity.problems:
        raise ValueError(
            f"{origin} does not fit the architecture in {MODEL_CONFIG_FILE}: it {'; '.join(identity.problems)}; "
            f"by its shapes it is {identify(weights, origin).name}"
        )
    return identity


def _preprocessing(found: LocatedCheckpoint, identity: Identity, config: VOLOConfig) -> dict[str, Any]:
    """What belongs to the weights: as described beside them, as published with them, or the paper's."""
    described = found.description.preprocessing if found.description else None
    if found.architecture:
        return dict(described or {})
    rows = [WEIGHTS[f"{name}.sail_in1k"] for name in identity.names if f"{name}.sail_in1k" in WEIGHTS]
    row = found.published or next((row for row in rows if (row.size, row.size) == config.img_size), None)
    crop = row.crop_pct if row else usual_crop(config.img_size)
    gray = {"mean": GRAY_MEAN, "std": GRAY_STD} if config.in_chans == 1 else {}
    return {"size": config.img_size, "crop_pct": crop, "interpolation": "bicubic", **gray, **(described or {})}


def load_segmenter(source: Source) -> TrainedSegmenter:
    """Load a trained segmentation model with all that is known of its use.

    Args:
        source: a run folder, ``hf-hub:org/name``, or what else holds ``model.safetensors`` beside ``config.json``.

    Raises:
        ValueError: the source cannot be found or read, is a classifier, or is damaged, in one line that says why.
    """
    found = locate(source)
    origin, described = found.checkpoint.origin, found.description
    if described is None or described.segmentation is None or described.config is None:
        raise ValueError(
            f"{origin} is no segmentation model; volo.Predictor uses classifiers, volo.load_model reads them"
        )
    more = described.segmentation
    try:
        config = described_config(described)
        colors = tuple(parse_color(text) for text in stored_colors(more))
        ignore_index, short_side = int(more["ignore_index"]), more["short_side"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{MODEL_CONFIG_FILE} of {origin} does not describe a segmentation model: {error}") from error
    return TrainedSegmenter(
        model=_build(config, found.checkpoint),
        class_names=described.class_names or (),
        class_colors=colors,
        ignore_index=ignore_index,
        preprocessing=described.preprocessing or {},
        short_side=short_side,
    )


def _build(config: SegmentationConfig, checkpoint: Checkpoint) -> SegmentationModel:
    """A model around the weights, which become its parameters: nothing is initialized, nothing copied."""
    with torch.device("meta"):
        model = SegmentationModel(config)
    expected = model.state_dict()
    # What reads files has taken away all that stands before the VOLO's own names.
    there = {name: checkpoint.weights.get(name.removeprefix(BACKBONE)) for name in expected}
    wrong = [name for name, tensor in there.items() if tensor is None or tensor.shape != expected[name].shape]
    if wrong or len(checkpoint.weights) != len(expected):
        what = f"lacks {join_few(wrong)}" if wrong else f"has {len(checkpoint.weights) - len(expected)} others"
        raise ValueError(
            f"{checkpoint.origin} does not fit the architecture in {MODEL_CONFIG_FILE}: of its tensors it {what}"
        )
    weights = {name: tensor.to(expected[name].dtype) for name, tensor in there.items() if tensor is not None}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()
