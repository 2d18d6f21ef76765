"""Loading of trained models from a run folder, a file of weights, the hub, a web address or an object."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.imagenet import GRAY_MEAN, GRAY_STD, imagenet_names
from volo.messages import join_few, nearest, normalized
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
    read_description,
)
from volo.models.weights.published import WEIGHTS, PublishedWeights, shipped_weights
from volo.models.weights.read import Checkpoint, check_finite_weights, from_object, read_checkpoint
from volo.models.weights.trained import TrainedModel, TrainedSegmenter

#: Prefix of a repository name of the Hugging Face hub.
HUB = "hf-hub:"

_log = logging.getLogger("volo")

#: Sources of weights: a path, the name of published weights, ``hf-hub:org/name``, a URL, a module or a state dict.
Source = str | Path | nn.Module | Mapping[str, Tensor]


def usual_crop(img_size: tuple[int, int]) -> float:
    """Return the usual ``crop_pct``: the paper's 0.96 for photos, 1.0 for images below 128 pixels a side."""
    return 0.96 if min(img_size) >= 128 else 1.0


@dataclass(frozen=True)
class LocatedCheckpoint:
    """A checkpoint that was found and read, before its architecture is checked.

    Attributes:
        checkpoint: the tensors, and how they were read.
        description: the ``config.json`` beside the file; None if there is no such file.
        published: the row of the table of published weights; None for other weights.
    """

    checkpoint: Checkpoint
    description: ModelDescription | None = None
    published: PublishedWeights | None = None

    @property
    def architecture(self) -> VOLOConfig | None:
        """The architecture in the description; None if it has none."""
        return self.description.config if self.description else None


def locate(source: Source, *, ema: bool | None = None) -> LocatedCheckpoint:
    """Find and read weights, without a check that they are a VOLO's.

    Args:
        source: a file; a folder with ``model.safetensors`` and ``config.json``; ``hf-hub:org/name``, or
            ``hf-hub:org/name@revision``; a URL; the name of published weights; a module; a state dict.
        ema: see :func:`volo.models.weights.read.read_checkpoint`.

    Raises:
        ValueError: The source does not exist, or cannot be read.
    """
    if not isinstance(source, str | Path):
        return LocatedCheckpoint(from_object(source, ema=ema))
    try:
        path, published = _weights_file(source)
        return LocatedCheckpoint(read_checkpoint(path, ema=ema), _description_of(path), published)
    except OSError as error:
        raise ValueError(f"{error.filename or source} cannot be read: {error.strerror or error}") from error


def task_of(source: Source) -> str:
    """Return the task of a trained model, classification or segmentation, without reading its weights.

    The description beside the weights gives the task; without a description, it is classification.

    Raises:
        ValueError: The source does not exist, or its description cannot be read.
    """
    if not isinstance(source, str | Path):
        return CLASSIFICATION
    try:
        description = _description_of(_weights_file(source)[0])
    except OSError as error:
        raise ValueError(f"{error.filename or source} cannot be read: {error.strerror or error}") from error
    return description.task if description else CLASSIFICATION


def load_model(source: Source, *, ema: bool | None = None) -> TrainedModel:
    """Load a trained classifier together with its class names and its preprocessing.

    The shapes of the weights, and the description beside them if there is one, give the architecture. If the class
    names are unknown, ImageNet's names are used for 1,000 classes, and numbers for any other count.

    Args:
        source: a run folder, or any other source of :func:`volo.models.weights.load.locate`.
        ema: for files that also hold weights averaged over the training steps: True takes the averaged weights, False
            the last ones; None takes the averaged weights if there are any.

    Raises:
        ValueError: The source cannot be found or read, is damaged, or is not a VOLO classifier; the message is one
            line.
    """
    found = locate(source, ema=ema)
    checkpoint, description = found.checkpoint, found.description
    identity = _identify(found)
    if not identity.certain:
        raise ValueError(
            f"{checkpoint.origin} is {identity.name}, and no tensor shows its number of heads: give a folder with "
            f"{MODEL_CONFIG_FILE}, or use create_model(NAME, heads=(…), …, pretrained=…)"
        )
    config = identity.config
    weights, notes = adapt(checkpoint.weights, identity, config, origin=checkpoint.origin, new_heads=False)
    names = description.class_names if description else None
    if names is None:
        names = imagenet_names() if config.num_classes == 1000 else tuple(map(str, range(config.num_classes)))
        used = "ImageNet’s names" if config.num_classes == 1000 else "numbers"
        notes.append(f"it has no class names, {used} are used")
    elif len(names) != config.num_classes:
        raise ValueError(
            f"{checkpoint.origin} has {config.num_classes} classes, but {MODEL_CONFIG_FILE} names {len(names)}"
        )
    report(checkpoint, notes)
    return TrainedModel(
        model=build(config, weights).eval(),
        class_names=names,
        preprocessing=_preprocessing(found, identity, config),
    )


def load_segmenter(source: Source) -> TrainedSegmenter:
    """Load a trained segmentation model together with its class names, class colors and preprocessing.

    Args:
        source: a run folder, ``hf-hub:org/name``, or any other source with ``config.json`` beside its weights.

    Raises:
        ValueError: The source cannot be found or read, is damaged, or is a classifier; the message is one line.
    """
    found = locate(source)
    origin, description = found.checkpoint.origin, found.description
    if description is None or description.segmentation is None:
        raise ValueError(f"{origin} is not a segmentation model; use volo.Predictor or volo.load_model for classifiers")
    stored = description.segmentation
    return TrainedSegmenter(
        model=_build_segmentation_model(stored.config, found.checkpoint),
        class_names=description.class_names or (),
        class_colors=stored.class_colors,
        ignore_index=stored.ignore_index,
        preprocessing=description.preprocessing or {},
        short_side=stored.short_side,
    )


def from_pretrained(source: str | Path, *, revision: str | None = None) -> TrainedModel:
    """Load a trained classifier from a path or, if the path does not exist, from the hub's repository ``org/name``.

    Args:
        source: a path, ``org/name``, or any other source of :func:`load_model`.
        revision: branch, tag or commit of a repository of the hub; None means the main branch.

    Raises:
        ValueError: See :func:`load_model`.
    """
    exists, is_repository = Path(source).exists(), re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is not None
    if revision and (exists or not is_repository):
        raise ValueError(
            f"{source} has no revision {revision!r}: only a repository of the hub, org/name, has revisions"
        )
    if exists or not is_repository:
        return load_model(source)
    try:
        return load_model(f"{HUB}{source}@{revision}" if revision else f"{HUB}{source}")
    except ValueError as error:
        raise ValueError(f"there is no folder {source}, and the hub gave an error: {error}") from error


def load_weights(
    source: Source, config: VOLOConfig, *, ema: bool | None, new_heads: bool, class_names: Sequence[str] | None
) -> VOLO:
    """Build a ``config`` model with the weights of ``source`` adapted to it, and log every change in one line.

    Args:
        source: see :func:`locate`.
        config: the architecture of the model.
        ema: see :func:`volo.models.weights.read.read_checkpoint`.
        new_heads: see :func:`volo.models.weights.adapt.adapt`.
        class_names: the class of each output; heads that were trained for other classes are replaced. None keeps them.

    Raises:
        ValueError: See :func:`locate` and :func:`volo.models.weights.adapt.adapt`.
    """
    found = locate(source, ema=ema)
    checkpoint, identity = found.checkpoint, _identify(found)
    weights, notes = adapt(
        checkpoint.weights,
        identity,
        config,
        origin=checkpoint.origin,
        new_heads=new_heads,
        other_classes=_has_other_classes(found.description, class_names),
    )
    report(checkpoint, notes)
    return build(config, weights)


def _has_other_classes(description: ModelDescription | None, class_names: Sequence[str] | None) -> bool:
    """Return True if the description names other classes than ``class_names``.

    Two lists of 1,000 classes count as equal: ImageNet's classes have several sets of names.
    """
    described = description.class_names if description else None
    if described is None or class_names is None or len(described) == len(class_names) == 1000:
        return False
    return list(map(normalized, described)) != list(map(normalized, class_names))


def report(checkpoint: Checkpoint, notes: list[str]) -> None:
    """Log in one line which weights of the file were chosen, and every change in ``notes``.

    Without a logging configuration, Python prints the line to standard error.
    """
    messages = [checkpoint.choice, *notes] if checkpoint.choice else notes
    if messages:
        _log.warning("%s: %s", checkpoint.origin, "; ".join(messages))


def _weights_file(source: str | Path) -> tuple[Path, PublishedWeights | None]:
    """Return the file of weights of a source, downloaded if necessary, and its row of the published weights."""
    text = str(source)
    if text.startswith(HUB):
        from volo.models.weights.hub import fetch  # the hub's client takes long to import, and files do not need it

        published = WEIGHTS.get(text.removeprefix(f"{HUB}timm/").partition("@")[0])
        return _file_in(fetch(text.removeprefix(HUB))), published
    if text.startswith(("http:/", "https:/", "file:/")):
        from volo.models.weights.hub import fetch_url

        return fetch_url(text), next((row for row in WEIGHTS.values() if row.url == text), None)
    path = Path(source)
    if path.is_dir():
        return _file_in(path, needs_description=True), None
    if text.startswith("volo") and path.parent == Path() and not path.is_symlink() and not path.exists():
        return _named_weights_file(text)
    return path, None


def _named_weights_file(name: str) -> tuple[Path, PublishedWeights | None]:
    """Return the same for the name of published or shipped weights, with or without its tag."""
    shipped = shipped_weights()
    known = {alias: full for full in (*WEIGHTS, *shipped) for alias in (full.partition(".")[0], full)}
    full = known.get(name)
    if full is None:
        raise ValueError(
            f"{name} is not a file or folder, and no weights are published as {name!r}{nearest(name, known)}"
        )
    if full in shipped:
        return _file_in(shipped[full]), None
    from volo.models.weights.hub import fetch  # the hub's client takes long to import, and files do not need it

    return _file_in(fetch(WEIGHTS[full].repo)), WEIGHTS[full]


def _description_of(path: Path) -> ModelDescription | None:
    """Read the description of a file of weights, or return None.

    ``config.json`` describes the files ``WEIGHTS_FILES`` beside it, and all files in the folder ``checkpoints`` beside
    it. Any other file beside it may be of another model.
    """
    home = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if (path.name in WEIGHTS_FILES or home != path.parent) and (home / MODEL_CONFIG_FILE).is_file():
        return read_description(home / MODEL_CONFIG_FILE)
    return None


def _file_in(folder: Path, *, needs_description: bool = False) -> Path:
    """Return the file of weights in a folder."""
    if needs_description and not (folder / MODEL_CONFIG_FILE).is_file():
        raise ValueError(
            f"{folder} is not a trained model: {folder / MODEL_CONFIG_FILE} does not exist; give a run folder or a file"
        )
    for name in WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"{folder} is not a trained model: {folder / WEIGHTS_FILES[0]} does not exist; give a run folder or a file"
    )


def _identify(found: LocatedCheckpoint) -> Identity:
    """Return the architecture of the weights, or raise ValueError if it is not the one in the description."""
    weights, origin = found.checkpoint.weights, found.checkpoint.origin
    if found.description and found.description.task == SEGMENTATION:
        raise ValueError(
            f"{origin} is a segmentation model, not a classifier; use volo.Segmenter or volo.load_segmenter"
        )
    identity = identify(weights, origin, described=found.architecture)
    if found.architecture and identity.problems:
        raise ValueError(
            f"{origin} does not fit the architecture in {MODEL_CONFIG_FILE}: it {'; '.join(identity.problems)}; "
            f"its shapes are those of {identify(weights, origin).name}"
        )
    return identity


def _preprocessing(found: LocatedCheckpoint, identity: Identity, config: VOLOConfig) -> dict[str, Any]:
    """Return the preprocessing from the description, else from the row of the published weights, else the paper's."""
    described = found.description.preprocessing if found.description else None
    if found.architecture:  # volo wrote the description, so it is complete
        return dict(described or {})
    rows = [WEIGHTS[f"{name}.sail_in1k"] for name in identity.names if f"{name}.sail_in1k" in WEIGHTS]
    row = found.published or next((row for row in rows if (row.size, row.size) == config.img_size), None)
    crop = row.crop_pct if row else usual_crop(config.img_size)
    gray = {"mean": GRAY_MEAN, "std": GRAY_STD} if config.in_chans == 1 else {}
    return {"size": config.img_size, "crop_pct": crop, "interpolation": "bicubic", **gray, **(described or {})}


def _build_segmentation_model(config: SegmentationConfig, checkpoint: Checkpoint) -> SegmentationModel:
    """Build a segmentation model whose parameters are the given tensors, without initialization and without copies."""
    with torch.device("meta"):
        model = SegmentationModel(config)
    expected = model.state_dict()
    # read_checkpoint has removed the prefix of the VOLO's own tensors, and no other prefix.
    found = {name: checkpoint.weights.get(name.removeprefix(BACKBONE)) for name in expected}
    wrong = [name for name, tensor in found.items() if tensor is None or tensor.shape != expected[name].shape]
    if wrong or len(checkpoint.weights) != len(expected):
        extra = len(checkpoint.weights) - len(expected)
        problem = f"lacks {join_few(wrong)}" if wrong else f"has {extra} unexpected tensors"
        raise ValueError(f"{checkpoint.origin} does not fit the architecture in {MODEL_CONFIG_FILE}: it {problem}")
    weights = {name: tensor.to(expected[name].dtype) for name, tensor in found.items() if tensor is not None}
    check_finite_weights(checkpoint.origin, weights)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()
