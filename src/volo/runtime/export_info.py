"""What an exported model says of itself: what its outputs mean, and what it must be given."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import Tensor

from volo.color import Color, stored_colors
from volo.data import Preprocessing

EXPORT_FORMAT_VERSION = 1
#: Under this name a file holds the description, as JSON.
KEY = "volo"
#: Endings of exported files: ONNX, OpenVINO, and PyTorch's archives (``torch.export`` and AOTInductor).
ENDINGS = (".onnx", ".xml", ".pt2")


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """The description that stands in an exported file.

    Attributes:
        volo_version: of the package that wrote it.
        source: the model that it was made from, as the person named it.
        task: classification or segmentation.
        class_names: what the outputs mean, in order.
        preprocessing: what is done to an image first; its ``size`` is that of the input, or of a dynamic one the
            size that the file was made with.
        dynamic: what may vary: none, batch, size or both. Where the batch may not, it is one image.
        precision: fp32, fp16 or int8.
        include_preprocessing: the input is (B, H, W, channels) uint8, 0–255; else (B, channels, H, W) float32,
            normalized.
        include_resize: the input is photos of any size, all of a batch of one; else they are resized and cropped
            already.
        include_softmax: the first output is probabilities in the place of logits.
        include_tokens: there is a second output, the logits of every patch token, (B, h, w, classes).
        class_colors, ignore_index, short_side: of segmentation alone, as in :class:`volo.models.TrainedSegmenter`.
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
        """Whether it takes images of other sizes than ``preprocessing.size``."""
        return self.dynamic in ("size", "both")

    @property
    def one_by_one(self) -> bool:
        """Whether it takes one image at a time."""
        return self.dynamic in ("none", "size")

    def as_input(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, channels, H, W) uint8, 0–255, or photos where it resizes them, as it takes them."""
        batch = pixels.permute(0, 2, 3, 1) if self.include_preprocessing else self.preprocessing.normalize(pixels)
        return batch.contiguous()

    def to_json(self) -> str:
        """As it stands in the file."""
        return json.dumps({"format_version": EXPORT_FORMAT_VERSION, **asdict(self)})


def is_exported(path: str | Path) -> bool:
    """Whether a name is that of an exported file, by its ending."""
    return Path(path).suffix in ENDINGS


def parse_description(text: str | None, path: str | Path) -> ExportInfo:
    """The description of the file ``path`` from its JSON.

    Raises:
        ValueError: there is none, it is damaged, or another version of volo wrote it.
    """
    if not text:
        raise ValueError(f"{path} has no description of volo's in it: give a file that `volo export` wrote")
    try:
        said = json.loads(text)
        version = said["format_version"]
        writer = said.get("volo_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the description in {path} cannot be read: {error}; export it again") from error
    if version != EXPORT_FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format version {version}, by volo {writer}; this volo reads version "
            f"{EXPORT_FORMAT_VERSION}: export it again, or install the volo that wrote it"
        )
    try:
        said["class_names"] = tuple(said["class_names"])
        colors = stored_colors(said)
        said["class_colors"] = None if colors is None else tuple(map(tuple, colors))
        said["preprocessing"] = Preprocessing.from_dict(said["preprocessing"])
        return ExportInfo(**{field.name: said[field.name] for field in fields(ExportInfo)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the description in {path} is incomplete: {error}; export it again") from error
