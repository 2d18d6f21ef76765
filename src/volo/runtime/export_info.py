"""The description inside an exported model: the meaning of its outputs, and the input that it needs."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import Tensor

from volo.color import Color, stored_colors
from volo.data import Preprocessing

EXPORT_FORMAT_VERSION = 1
#: Metadata key under which an exported file holds the description, as JSON.
KEY = "volo"
#: File name suffixes of exported files: ONNX, OpenVINO, and PyTorch's archives (``torch.export`` and AOTInductor).
ENDINGS = (".onnx", ".xml", ".pt2")


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
        stored = json.loads(text)
        version = stored["format_version"]
        writer = stored.get("volo_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the description in {path} cannot be read: {error}; export the model again") from error
    if version != EXPORT_FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, written by volo {writer}; this volo reads version "
            f"{EXPORT_FORMAT_VERSION}: export the model again, or install the version of volo that wrote the file"
        )
    try:
        stored["class_names"] = tuple(stored["class_names"])
        colors = stored_colors(stored)
        stored["class_colors"] = None if colors is None else tuple(map(tuple, colors))
        stored["preprocessing"] = Preprocessing.from_dict(stored["preprocessing"])
        return ExportInfo(**{field.name: stored[field.name] for field in fields(ExportInfo)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the description in {path} is incomplete: {error}; export the model again") from error
