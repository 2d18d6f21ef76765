"""The model folder, the result of training: ``model.safetensors`` and ``config.json``.

Every part of this package that uses a trained model reads these two files, and nothing in them is ever unpickled.
timm and transformers store models in files of the same names, with another ``config.json``; those are read, too.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from volo.color import Color, hex_color, parse_color, stored_colors
from volo.files import atomic_write
from volo.imagenet import distinct
from volo.limits import check_mask_settings, check_names, check_preprocessing, parse_object, short_repr
from volo.models.config import VOLOConfig
from volo.models.segmentation import SegmentationConfig

MODEL_FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
MODEL_CONFIG_FILE = "config.json"
#: File names of the weights in a folder, in the order of preference; the second is an older one of the hub.
WEIGHTS_FILES = (WEIGHTS_FILE, "pytorch_model.bin")
#: Tasks of a model; a description without a task is a classifier's.
CLASSIFICATION, SEGMENTATION = "classification", "segmentation"


#: Largest ``config.json`` to read, in bytes: one of 21,841 ImageNet classes has about 1 MB.
_LARGEST_DESCRIPTION = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class SegmentationDescription:
    """The entries that only the ``config.json`` of a segmentation model has.

    Attributes:
        config: the architecture of the whole model.
        class_colors: (red, green, blue) of each class, 0–255.
        ignore_index: the mask value of pixels that training and evaluation ignored.
        short_side: see :class:`volo.models.TrainedSegmenter`.
    """

    config: SegmentationConfig
    class_colors: tuple[Color, ...]
    ignore_index: int
    short_side: int | None


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The content of a ``config.json``; None for each field that the file does not have.

    Attributes:
        writer: volo, timm or transformers.
        config: the architecture, which only volo stores.
        class_names: the class of each output, in order.
        preprocessing: fields of :class:`volo.data.Preprocessing`.
        task: classification or segmentation.
        segmentation: the further entries of a segmentation model.
    """

    writer: str
    config: VOLOConfig | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] | None = None
    task: str = CLASSIFICATION
    segmentation: SegmentationDescription | None = None


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
        ValueError: The class names cannot be stored; see :func:`volo.limits.check_names`.
        OSError: The files cannot be written.
    """
    check_names(class_names, config.num_classes)
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
        ValueError: The number of names or of colors is not the number of classes, or the names cannot be stored.
        OSError: The files cannot be written.
    """
    if not len(class_names) == len(class_colors) == config.num_classes:
        raise ValueError(
            f"{config.num_classes} classes need as many names and colors, not {len(class_names)} and "
            f"{len(class_colors)}"
        )
    check_names(class_names)
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
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, weights_file, {"format": "pt"})


def read_description(path: Path) -> ModelDescription:
    """Read a ``config.json`` that volo, timm or the TimmWrapper of transformers wrote.

    Raises:
        ValueError: The file was written by none of these, is damaged, has a newer format version, or has a value of
            another type or out of the limits of :mod:`volo.limits`.
    """
    content = _read_json(path)
    if "format_version" not in content and isinstance(content.get("architecture"), str):
        read = _timm_description
    elif content.get("format_version") is None:
        raise ValueError(f"{path} is not a description of a volo model: it has no format_version")
    elif content["format_version"] != MODEL_FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {short_repr(content['format_version'])}; this volo reads version "
            f"{MODEL_FORMAT_VERSION}; upgrade volo"
        )
    else:
        read = _volo_description
    try:
        return read(content)
    except KeyError as error:
        raise ValueError(f"{path} does not describe a model: {error} is missing") from error
    except ValueError as error:
        raise ValueError(f"{path} does not describe a model: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a file whose size is limited."""
    if path.stat().st_size > _LARGEST_DESCRIPTION:
        raise ValueError(
            f"{path} is not a description of a volo model: it is larger than {_LARGEST_DESCRIPTION / 2**20:.0f} MiB"
        )
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a description of a volo model: {error}") from error


def _volo_description(content: dict[str, Any]) -> ModelDescription:
    """Check our own ``config.json``. Raises KeyError and ValueError."""
    config, task = VOLOConfig.from_dict(content["architecture"]), content.get("task", CLASSIFICATION)
    if task not in (CLASSIFICATION, SEGMENTATION):
        raise ValueError(f"its task is {short_repr(task)}; this volo supports {CLASSIFICATION} and {SEGMENTATION}")
    segmentation = _segmentation(_settings(content, SEGMENTATION), config) if task == SEGMENTATION else None
    preprocessing = _settings(content, "preprocessing")
    check_preprocessing(preprocessing)
    classes = segmentation.config.num_classes if segmentation else config.num_classes
    return ModelDescription(
        writer="volo",
        config=config,
        class_names=check_names(content["class_names"], classes),
        preprocessing=preprocessing,
        task=task,
        segmentation=segmentation,
    )


def _segmentation(stored: dict[str, Any], backbone: VOLOConfig) -> SegmentationDescription:
    """Check the entries of a segmentation model. Raises KeyError and ValueError."""
    fields = ("num_classes", "decoder", "decoder_channels")
    config = SegmentationConfig(backbone=backbone, **{key: stored[key] for key in fields})
    colors, ignored, side = stored_colors(stored), stored["ignore_index"], stored["short_side"]
    texts = isinstance(colors, list) and all(isinstance(color, str) and len(color) <= 20 for color in colors)
    if not texts or len(colors) != config.num_classes:
        raise ValueError(f"class_colors must be {config.num_classes:,} colors, not {short_repr(colors)}")
    check_mask_settings(ignored, side)
    return SegmentationDescription(
        config=config,
        class_colors=tuple(parse_color(color) for color in colors),
        ignore_index=ignored,
        short_side=side,
    )


def _settings(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an entry of ``content`` that must be settings by name. Raises KeyError and ValueError."""
    values = content[name]
    if not isinstance(values, dict):
        raise ValueError(f"{name} must be settings by name, not {short_repr(values)}")
    return values


def _timm_description(content: dict[str, Any]) -> ModelDescription:
    """Translate timm's ``config.json``, which TimmWrapper extends by entries of its own. Raises ValueError."""
    settings = _settings(content, "pretrained_cfg") if content.get("pretrained_cfg") else content
    size = settings.get("test_input_size") or settings.get("input_size")
    keys = ("crop_pct", "interpolation", "mean", "std")
    preprocessing: dict[str, Any] = {key: settings[key] for key in keys if key in settings}
    if size:
        if not isinstance(size, list) or len(size) != 3:
            raise ValueError(f"input_size must be channels, height and width, not {short_repr(size)}")
        preprocessing["size"] = size[1:]
    check_preprocessing(preprocessing)
    names = content.get("label_names") or settings.get("label_names")
    if not names and isinstance(content.get("id2label"), dict):
        names = [content["id2label"][key] for key in sorted(content["id2label"], key=int)]
    if isinstance(names, list):
        names = distinct(check_names([str(name) if isinstance(name, int) else name for name in names]))
    elif names:
        raise ValueError(f"label_names must be a list of texts, not {short_repr(names)}")
    return ModelDescription(
        writer="transformers" if content.get("model_type") == "timm_wrapper" else "timm",
        class_names=names or None,
        preprocessing=preprocessing or None,
    )
