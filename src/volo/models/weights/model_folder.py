"""The model folder, the result of training: ``model.safetensors`` and ``config.json``.

Every part of this package that uses a trained model reads these two files, and nothing in them is ever unpickled.
timm and transformers store models in files of the same names, with another ``config.json``; those are read, too.
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
#: File names of the weights in a folder, in the order of preference; the second is an older one of the hub.
WEIGHTS_FILES = (WEIGHTS_FILE, "pytorch_model.bin")
#: Tasks of a model; a description without a task is a classifier's.
CLASSIFICATION, SEGMENTATION = "classification", "segmentation"


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The content of a ``config.json``; None for each field that the file does not have.

    Attributes:
        writer: volo, timm or transformers.
        config: the architecture, which only volo stores.
        class_names: the class of each output, in order.
        preprocessing: fields of :class:`volo.data.Preprocessing`.
        task: classification or segmentation.
        segmentation: the further entries of a segmentation model, as :func:`save_segmenter` writes them.
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
    """Write ``weights``, the state dict of a VOLO, and their description into ``folder``, both files or neither.

    Raises:
        OSError: The files cannot be written.
    """
    description = {
        "format_version": MODEL_FORMAT_VERSION,
        "architecture": asdict(config),
        "class_names": class_names,
        "preprocessing": preprocessing,
    }
    save_model_folder(folder, weights, description)


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
    """Write ``weights``, the state dict of a :class:`SegmentationModel`, and their description, both files or neither.

    Raises:
        ValueError: The number of names or of colors is not the number of classes.
        OSError: The files cannot be written.
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


def save_model_folder(folder: Path, weights: Mapping[str, Tensor], description: dict[str, Any]) -> None:
    """Write ``model.safetensors`` from ``weights`` and ``config.json`` from ``description``, both files or neither.

    Raises:
        OSError: The files cannot be written.
    """
    text = json.dumps(description, indent=2) + "\n"
    with (
        atomic_write(folder / MODEL_CONFIG_FILE) as description_file,
        atomic_write(folder / WEIGHTS_FILE) as weights_file,
    ):
        description_file.write_text(text, encoding="utf-8")
        try:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, weights_file, {"format": "pt"})
        except SafetensorError as error:
            # safetensors reports a failure of the system as text alone; callers handle OSError.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def read_description(path: Path) -> ModelDescription:
    """Read a ``config.json`` that volo, timm or the TimmWrapper of transformers wrote.

    Raises:
        ValueError: The file was written by none of these, is damaged, or has a newer format version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "format_version" not in content and isinstance(content.get("architecture"), str):
            return _timm_description(content)
        version = content["format_version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a description of a volo model: {error}") from error
    if version != MODEL_FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}; this volo reads version {MODEL_FORMAT_VERSION}; upgrade volo"
        )
    try:
        config, task = VOLOConfig.from_dict(content["architecture"]), content.get("task", CLASSIFICATION)
        if task not in (CLASSIFICATION, SEGMENTATION):
            raise ValueError(f"its task is {task!r}; this volo supports {CLASSIFICATION} and {SEGMENTATION}")
        segmentation = dict(content[SEGMENTATION]) if task == SEGMENTATION else None
        return ModelDescription(
            writer="volo",
            config=config,
            class_names=_class_names(
                content["class_names"], segmentation["num_classes"] if segmentation else config.num_classes
            ),
            preprocessing=dict(content["preprocessing"]),
            task=task,
            segmentation=segmentation,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a model: {error}") from error


def described_config(description: ModelDescription) -> SegmentationConfig:
    """Return the architecture of a segmentation model from its description.

    Raises:
        KeyError: An entry is missing.
        ValueError: A value is not allowed.
    """
    assert description.config is not None
    assert description.segmentation is not None
    fields = ("num_classes", "decoder", "decoder_channels")
    return SegmentationConfig(backbone=description.config, **{key: description.segmentation[key] for key in fields})


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != count:
        raise ValueError(f"class_names must be {count} names, one for each output")
    return tuple(names)


def _timm_description(content: dict[str, Any]) -> ModelDescription:
    """Translate timm's ``config.json``, which TimmWrapper extends by entries of its own."""
    settings = content.get("pretrained_cfg") or content
    size = settings.get("test_input_size") or settings.get("input_size")
    preprocessing = {key: settings[key] for key in ("crop_pct", "interpolation", "mean", "std") if key in settings}
    if size:
        preprocessing["size"] = list(size[1:])
    names = content.get("label_names") or settings.get("label_names")
    if not names and isinstance(content.get("id2label"), dict):
        names = [content["id2label"][key] for key in sorted(content["id2label"], key=int)]
    return ModelDescription(
        writer="transformers" if content.get("model_type") == "timm_wrapper" else "timm",
        class_names=distinct([str(name) for name in names]) if names else None,
        preprocessing=preprocessing or None,
    )
