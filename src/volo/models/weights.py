"""The deliverable of a training: a folder with ``model.safetensors`` and ``config.json``.

Everything that uses a trained model reads this pair; nothing in it is ever unpickled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from volo.files import replacing
from volo.models.config import VOLOConfig
from volo.models.volo import VOLO

FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model and what one must know to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: what its outputs mean, in order.
        preprocessing: the fields of :class:`volo.data.Preprocessing`.
    """

    model: VOLO
    class_names: tuple[str, ...]
    preprocessing: dict[str, Any]


def save_model(
    folder: Path,
    config: VOLOConfig,
    weights: dict[str, Tensor],
    *,
    class_names: tuple[str, ...],
    preprocessing: dict[str, Any],
) -> None:
    """Write ``weights``, a VOLO's state dict, and what describes them into ``folder``; no file is left half-written."""
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": asdict(config),
        "class_names": class_names,
        "preprocessing": preprocessing,
    }
    text = json.dumps(description, indent=2) + "\n"  # before anything is replaced, since it may fail
    with replacing(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
    with replacing(folder / CONFIG_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load_model(path: str | Path) -> TrainedModel:
    """Read a folder that :func:`save_model` wrote; the weights file in it may be named as well.

    Raises:
        ValueError: there is no such pair of files, or they are damaged, of a newer version, or disagree.
    """
    folder = Path(path)
    if folder.name == WEIGHTS_FILE:
        folder = folder.parent
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{path} is no trained model: {folder / name} does not exist; give a run folder")
    description = _read_description(folder / CONFIG_FILE)
    try:
        config = VOLOConfig.from_dict(description["architecture"])
        class_names = _class_names(description["class_names"], config.num_classes)
        preprocessing = dict(description["preprocessing"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} does not describe a model: {error}") from error
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} is no safetensors file: {error}") from error
    model = VOLO(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{folder / WEIGHTS_FILE} does not fit the architecture in {CONFIG_FILE}: {problem}"
        ) from error
    return TrainedModel(model=model.eval(), class_names=class_names, preprocessing=preprocessing)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no description of a volo model: {error}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version}; this volo reads version {FORMAT_VERSION}; upgrade volo")
    return description


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != count:
        raise ValueError(f"class_names must be {count} names, one for each output")
    return tuple(names)
