"""Weights with a name: the table of all published VOLO checkpoints, and the weights inside this package.

Sources: the files, ``authors_top1`` and the crop are from the authors (https://github.com/sail-sg/volo, release
``volo_1``; the crop is also in timm's configurations). The other scores are from timm's results files, and GMACs are
timm's count. Nobody else has published weights of these sizes for ImageNet-1k under a free license.
"""

from dataclasses import dataclass
from pathlib import Path

from volo.messages import nearest
from volo.models.config import VARIANTS
from volo.models.weights.model_folder import MODEL_CONFIG_FILE

_RELEASE = "https://github.com/sail-sg/volo/releases/download/volo_1"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One published checkpoint, trained on ImageNet-1k, with bicubic resizing and ImageNet's mean and deviation.

    Attributes:
        model: the name of its size, a key of :data:`volo.models.VARIANTS`.
        file: the authors' file.
        crop_pct: the share of the resized image's side that the center crop keeps; above 1, the crop is padded with
            black.
        gmacs: 10⁹ multiply-adds for one image.
        authors_top1: top-1 accuracy on ImageNet-1k's validation images, as the authors report it, %.
        top1: the same, measured by timm, %.
        real_top1: top-1 accuracy on the ReaL labels, measured by timm, %.
        v2_top1: top-1 accuracy on ImageNet-V2 (matched frequency), measured by timm, %.
        tag: the authors and the training data; the name of the checkpoint is ``model.tag``.
        license: the license of the weights.
    """

    model: str
    file: str
    crop_pct: float
    gmacs: float
    authors_top1: float
    top1: float
    real_top1: float
    v2_top1: float
    tag: str = "sail_in1k"
    license: str = "apache-2.0"

    @property
    def name(self) -> str:
        """The name of the checkpoint, here and in timm."""
        return f"{self.model}.{self.tag}"

    @property
    def repo(self) -> str:
        """The repository on the Hugging Face hub."""
        return f"timm/{self.name}"

    @property
    def url(self) -> str:
        """The URL of the authors' own file of these weights."""
        return f"{_RELEASE}/{self.file}"

    @property
    def size(self) -> int:
        """Side of the images of training and evaluation, in pixels."""
        return VARIANTS[self.model].img_size[0]


def _row(
    model: str, file: str, crop: float, gmacs: float, authors: float, top1: float, real: float, v2: float
) -> PublishedWeights:
    return PublishedWeights(
        model=model,
        file=f"{file}.pth.tar",
        crop_pct=crop,
        gmacs=gmacs,
        authors_top1=authors,
        top1=top1,
        real_top1=real,
        v2_top1=v2,
    )


#: Name with tag → the checkpoint, in the order of the sizes.
WEIGHTS: dict[str, PublishedWeights] = {
    row.name: row
    for row in (
        _row("volo_d1_224", "d1_224_84.2", 0.96, 6.94, 84.2, 84.148, 88.898, 74.10),
        _row("volo_d1_384", "d1_384_85.2", 1.0, 22.75, 85.2, 85.262, 89.711, 75.69),
        _row("volo_d2_224", "d2_224_85.2", 0.96, 14.34, 85.2, 85.204, 89.329, 75.47),
        _row("volo_d2_384", "d2_384_86.0", 1.0, 46.17, 86.0, 86.054, 89.784, 76.24),
        _row("volo_d3_224", "d3_224_85.4", 0.96, 20.78, 85.4, 85.440, 89.589, 75.69),
        _row("volo_d3_448", "d3_448_86.3", 1.0, 96.33, 86.3, 86.514, 90.179, 77.19),
        _row("volo_d4_224", "d4_224_85.7", 0.96, 44.34, 85.7, 85.868, 89.799, 76.13),
        _row("volo_d4_448", "d4_448_86.79", 1.15, 197.13, 86.8, 86.788, 90.510, 77.75),
        _row("volo_d5_224", "d5_224_86.10", 0.96, 72.4, 86.1, 86.076, 89.876, 76.60),
        _row("volo_d5_448", "d5_448_87.0", 1.15, 315.0, 87.0, 86.974, 90.587, 77.91),
        _row("volo_d5_512", "d5_512_87.07", 1.15, 425.0, 87.1, 87.068, 90.633, 78.12),
    )
}


def shipped_weights() -> dict[str, Path]:
    """Return name with tag → folder of the weights inside this package, which need no download."""
    folders = sorted(Path(__file__).with_name("shipped").iterdir())
    return {folder.name: folder for folder in folders if (folder / MODEL_CONFIG_FILE).is_file()}


def weights_name(name: str) -> str:
    """Return the full name, with tag, of published or shipped weights.

    Args:
        name: the name with its tag, without it, or without image size; ``volo_d1`` means the first of its sizes.

    Raises:
        ValueError: The name is unknown; the message suggests the most similar one.
    """
    known = [*WEIGHTS, *shipped_weights()]
    for full in known:
        model = full.partition(".")[0]
        if name in (full, model, model.rpartition("_")[0]):
            return full
    raise ValueError(f"no weights are published as {name!r}{nearest(name, known)}")
