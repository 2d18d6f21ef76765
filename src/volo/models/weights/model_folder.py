"""The deliverable of a training: a folder with ``model.safetensors`` and ``config.json``.

Everything that uses a trained model reads this pair; nothing in it is ever unpickled. The same pair, with other
words in ``config.json``, is how timm and transformers keep models: these are understood too.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from volo.color import Color, hex_color
from volo.files import atomic_write
from volo.imagenet import distinct
from volo.models.config import VOLOConfig
from volo.models.segmentation import SegmentationConfig

MODEL_FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
MODEL_CONFIG_FILE = "config.json"
#: What a folder may call its weights, the best form first; the second is an old one of the hub's.
WEIGHTS_FILES = (WEIGHTS_FILE, "pytorch_model.bin")
#: What a model does; a description that says nothing of it is a classifier's.
CLASSIFICATION, SEGMENTATION = "classification", "segmentation"


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What a ``config.json`` says of the weights beside it; None where it says nothing.

    Attributes:
        writer: volo, timm or transformers.
        config: the architecture, which volo alone writes down.
        class_names: what the outputs mean, in order.
        preprocessing: fields of :class:`volo.data.Preprocessing`.
        task: classification or segmentation.
        segmentation: what a segmentation model has beside its VOLO, as :func:`volo.models.save_segmenter` writes it.
    """

    writer: str
    config: VOLOConfig | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] | None = None
    task: str = CLASSIFICATION
    segmentation: dict[str, Any] | None = None


def save_model(
    folder: Path,
    config: VOLOConfig,
    weights: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...],
    preprocessing: dict[str, Any],
) -> None:
    """Write ``weights``, a VOLO's state dict, and what describes them into ``folder``; no file is left half-written."""
    description = {
        "format_version": MODEL_FORMAT_VERSION,
        "architecture": asdict(config),
        "class_names": class_names,
        "preprocessing": preprocessing,
    }
    save_model_folder(folder, weights, description)


def save_model_folder(folder: Path, weights: Mapping[str, Tensor], description: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json``, both or none.

    Raises:
        OSError: they cannot be written.
    """
    text = json.dumps(description, indent=2) + "\n"
    with atomic_write(folder / MODEL_CONFIG_FILE) as words, atomic_write(folder / WEIGHTS_FILE) as numbers:
        words.write_text(text, encoding="utf-8")
        try:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, numbers, {"format": "pt"})
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def read_description(path: Path) -> ModelDescription:
    """Read a ``config.json`` of ours, of timm's or of transformers' TimmWrapper.

    Raises:
        ValueError: it is none of these, damaged, or of a newer version.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if "format_version" not in said and isinstance(said.get("architecture"), str):
            return _of_timm(said)
        version = said["format_version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no description of a volo model: {error}") from error
    if version != MODEL_FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}; this volo reads version {MODEL_FORMAT_VERSION}; upgrade volo"
        )
    try:
        config, task = VOLOConfig.from_dict(said["architecture"]), said.get("task", CLASSIFICATION)
        if task not in (CLASSIFICATION, SEGMENTATION):
            raise ValueError(f"its task is {task!r}, and this volo knows {CLASSIFICATION} and {SEGMENTATION}")
        segmentation = dict(said[SEGMENTATION]) if task == SEGMENTATION else None
        return ModelDescription(
            writer="volo",
            config=config,
            class_names=_class_names(
                said["class_names"], segmentation["num_classes"] if segmentation else config.num_classes
            ),
            preprocessing=dict(said["preprocessing"]),
            task=task,
            segmentation=segmentation,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a model: {error}") from error


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != count:
        raise ValueError(f"class_names must be {count} names, one for each output")
    return tuple(names)


def _of_timm(said: dict[str, Any]) -> ModelDescription:
    """Timm's words for a model, which TimmWrapper keeps and adds to."""
    settings = said.get("pretrained_cfg") or said
    size = settings.get("test_input_size") or settings.get("input_size")
    preprocessing = {key: settings[key] for key in ("crop_pct", "interpolation", "mean", "std") if key in settings}
    if size:
        preprocessing["size"] = list(size[1:])
    names = said.get("label_names") or settings.get("label_names")
    if not names and isinstance(said.get("id2label"), dict):
        names = [said["id2label"][key] for key in sorted(said["id2label"], key=int)]
    return ModelDescription(
        writer="transformers" if said.get("model_type") == "timm_wrapper" else "timm",
        class_names=distinct([str(name) for name in names]) if names else None,
        preprocessing=preprocessing or None,
    )


def save_segmenter(
    folder: Path,
    config: SegmentationConfig,
    weights: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...],
    class_colors: tuple[Color, ...],
    ignore_index: int,
    preprocessing: dict[str, Any],
    short_side: int | None,
) -> None:
    """Write ``weights``, a :class:`SegmentationModel`'s state dict, and what describes them, both or none.

    Raises:
        ValueError: there is not one name and one color for each class. OSError: they cannot be written.
    """
    if not len(class_names) == len(class_colors) == config.num_classes:
        raise ValueError(
            f"{config.num_classes} classes need as many names and colors, not {len(class_names)} and "
            f"{len(class_colors)}"
        )
    description = {
        "format_version": MODEL_FORMAT_VERSION,
        "task": SEGMENTATION,
        "architecture": asdict(config.backbone),
        SEGMENTATION: {
            "num_classes": config.num_classes,
            "decoder": config.decoder,
            "decoder_channels": config.decoder_channels,
            "class_colors": [hex_color(color) for color in class_colors],
            "ignore_index": ignore_index,
            "short_side": short_side,
        },
        "class_names": class_names,
        "preprocessing": preprocessing,
    }
    save_model_folder(folder, weights, description)


def described_config(described: ModelDescription) -> SegmentationConfig:
    """The architecture of a description of a segmentation model. Raises KeyError or ValueError where it has none."""
    assert described.config is not None
    assert described.segmentation is not None
    fields = ("num_classes", "decoder", "decoder_channels")
    return SegmentationConfig(backbone=described.config, **{key: described.segmentation[key] for key in fields})
