"""The description inside an exported model: the meaning of its outputs, and the input that it needs."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from volo.color import Color, stored_colors
from volo.data import Preprocessing
from volo.limits import check_mask_settings, check_names, is_number, parse_json, short_repr
from volo.messages import elide
from volo.models.weights.model_folder import CLASSIFICATION, SEGMENTATION

EXPORT_FORMAT_VERSION = 1
#: Metadata key under which an exported file holds the description, as JSON.
KEY = "volo"
#: File name suffixes of exported files: ONNX, OpenVINO, and PyTorch's archives (``torch.export`` and AOTInductor).
ENDINGS = (".onnx", ".xml", ".pt2")
#: Kinds of files, by the dimensions of the input that may vary.
DYNAMIC = ("none", "batch", "size", "both")


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """The description inside an exported file.

    Attributes:
        volo_version: version of volo that wrote the file.
        source: the model that was exported, as the user wrote it.
        task: classification or segmentation.
        class_names: names of the classes, in the order of the outputs.
        preprocessing: preprocessing of the images. Its ``size`` is the input size; of a file with a dynamic size,
            the size that the model was exported with.
        dynamic: dimensions that may vary: none, batch, size or both. Where the batch size may not vary, it is 1.
        precision: fp32, bf16, fp16 or int8.
        include_preprocessing: True: the input is (B, H, W, channels) uint8, 0–255. False: it is (B, channels, H, W)
            float32, normalized.
        include_resize: True: the input is photos of any size, the same size within a batch. False: they must be
            resized and cropped before.
        include_softmax: True: the first output is probabilities. False: it is logits.
        include_tokens: whether there is a second output, the logits of every patch token, (B, h, w, classes).
        class_colors, ignore_index, short_side: for segmentation only, as in :class:`volo.models.TrainedSegmenter`.
    """

    volo_version: str
    source: str
    task: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    dynamic: str
    precision: str
    include_preprocessing: bool
    include_resize: bool
    include_softmax: bool
    include_tokens: bool
    class_colors: tuple[Color, ...] | None = None
    ignore_index: int | None = None
    short_side: int | None = None

    @property
    def any_size(self) -> bool:
        """Whether the file takes images of other sizes than ``preprocessing.size``."""
        return self.dynamic in ("size", "both")

    @property
    def one_by_one(self) -> bool:
        """Whether the file takes only batches of one image."""
        return self.dynamic in ("none", "size")

    def as_input(self, pixels: Tensor) -> Tensor:
        """Convert pixels to the layout and dtype of the file's input.

        Args:
            pixels: (B, channels, H, W) uint8, 0–255: preprocessed pixels, or photos if ``include_resize``.

        Returns:
            A contiguous batch, as described at ``include_preprocessing``.
        """
        batch = pixels.permute(0, 2, 3, 1) if self.include_preprocessing else self.preprocessing.normalize(pixels)
        return batch.contiguous()

    def to_json(self) -> str:
        """Return the description as JSON, with its format version."""
        return json.dumps({"format_version": EXPORT_FORMAT_VERSION, **asdict(self)})


#: Fields of a description that every file has in this form, and their types.
_TYPES: dict[str, type] = {
    "volo_version": str,
    "source": str,
    "task": str,
    "dynamic": str,
    "precision": str,
    "preprocessing": dict,
    "include_preprocessing": bool,
    "include_resize": bool,
    "include_softmax": bool,
    "include_tokens": bool,
}


def is_exported(path: str | Path) -> bool:
    """Return whether a path names an exported file, by its suffix."""
    return Path(path).suffix in ENDINGS


def parse_description(text: str | None, path: str | Path) -> ExportInfo:
    """Parse the JSON description of an exported file.

    Args:
        text: the JSON, or None if the file holds none.
        path: the file, for error messages.

    Raises:
        ValueError: The description is missing or damaged, or it has another format version.
    """
    if not text:
        raise ValueError(f"{path} holds no description by volo: use a file that `volo export` wrote")
    try:
        stored = parse_json(text)
        if not isinstance(stored, dict) or "format_version" not in stored:
            raise ValueError("it has no format_version")
    except ValueError as error:
        raise ValueError(f"the description in {path} cannot be read: {error}; export the model again") from error
    if stored["format_version"] != EXPORT_FORMAT_VERSION:
        version, writer = (elide(str(stored.get(name))) for name in ("format_version", "volo_version"))
        raise ValueError(
            f"{path} has format version {version}, written by volo {writer}; this volo reads version "
            f"{EXPORT_FORMAT_VERSION}: export the model again, or install the version of volo that wrote the file"
        )
    try:
        return _parse_fields(stored)
    except KeyError as error:
        raise ValueError(f"the description in {path} has no {error}; export the model again") from error
    except ValueError as error:
        raise ValueError(f"the description in {path} is damaged: {error}; export the model again") from error


def _parse_fields(stored: dict[str, Any]) -> ExportInfo:
    """Check the fields of a description. Raises KeyError and ValueError."""
    for name, kind in _TYPES.items():
        if not isinstance(stored[name], kind):
            raise ValueError(f"{name} must be of type {kind.__name__}, not {short_repr(stored[name])}")
    for name, known in (("task", (CLASSIFICATION, SEGMENTATION)), ("dynamic", DYNAMIC)):
        if stored[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {short_repr(stored[name])}")
    info = ExportInfo(
        **{name: stored[name] for name in _TYPES if name != "preprocessing"},
        class_names=check_names(stored["class_names"]),
        preprocessing=Preprocessing.from_dict(stored["preprocessing"]),
    )
    if info.task == CLASSIFICATION:
        return info
    colors, ignored, side = stored_colors(stored), stored["ignore_index"], stored["short_side"]
    if not isinstance(colors, list) or len(colors) != len(info.class_names) or not all(map(_is_color, colors)):
        raise ValueError(f"class_colors must be {len(info.class_names):,} colors, not {short_repr(colors)}")
    check_mask_settings(ignored, side)
    return replace(info, class_colors=tuple(map(tuple, colors)), ignore_index=ignored, short_side=side)


def _is_color(value: object) -> bool:
    channels = value if isinstance(value, list) and len(value) == 3 else [None]
    return all(isinstance(channel, int) and is_number(channel, 0, 255) for channel in channels)
