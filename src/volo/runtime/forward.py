"""From preprocessed pixels to logits, with a trained module or with an exported file.

Both are called alike: (B, channels, H, W) uint8, 0–255, to logits, of classification (B, K), of segmentation
(B, K, H, W).
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.data import Preprocessing
from volo.models.pyramid import STRIDES
from volo.models.weights.model_folder import SEGMENTATION
from volo.runtime.export_info import is_exported, parse_description
from volo.runtime.runtimes import FILE_RUNTIMES, check_running, open_runtime, torch_threads


class ModuleForward:
    """A module that is trained, on the device where it is; the logits stay there.

    Args:
        module: normalized images to logits.
        preprocessing: of the model.
        device: of the module.
        threads: to compute with on the CPU; None leaves it to PyTorch.
    """

    def __init__(
        self,
        module: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        threads: int | None = None,
    ) -> None:
        self.module, self.preprocessing, self.device, self.threads = module, preprocessing, device, threads

    def __call__(self, pixels: Tensor) -> Tensor:
        with torch_threads(self.threads):
            return self.module(self.preprocessing.normalize(pixels.to(self.device)))


class ExportedModel:
    """An exported file in its runtime; the logits are float32 on the CPU.

    A file that gives probabilities gives their logarithms here, which are logits too. Where a segmentation model's file
    takes one size, or multiples of 32 pixels alone, smaller images are padded with the mean color at the right and at
    the bottom, and the logits are cropped again: as :class:`volo.models.SegmentationModel` does it.

    Args:
        path: a file that ``volo export`` wrote.
        device: None or the CPU.
        threads: to compute with; None leaves it to the runtime.
        runtime: one of ``FILE_RUNTIMES``; None takes the one that the file is for.

    Attributes:
        path: of the file.
        described: what it says of itself.

    Raises:
        ValueError: there is no such file or runtime, or they do not go together.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        threads: int | None = None,
        runtime: str | None = None,
    ) -> None:
        if device is not None and str(device).partition(":")[0] != "cpu":
            raise ValueError(f"{path} is an exported file, which runs on the CPU, not on {device}")
        self.path = path
        self._runtime = open_runtime(path, runtime=runtime, threads=threads)
        self.info = parse_description(self._runtime.description, path)

    def __str__(self) -> str:
        return str(self.path)

    def check_task(self, task: str, user: str) -> None:
        """See that the model is one for ``user``. Raises ValueError."""
        if self.info.task != task:
            raise ValueError(f"{self.path} is a {self.info.task} model; {user} takes those of {task}")

    def __call__(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        batch = self._input(pixels)
        parts = batch.split(1) if self.info.one_by_one else [batch]
        logits = torch.cat([self._runtime(part) for part in parts])
        if self.info.include_softmax:
            logits = logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
        return logits[..., :height, :width] if self.info.task == SEGMENTATION else logits

    def _input(self, pixels: Tensor) -> Tensor:
        """As the file takes it."""
        bottom, right = (want - side for want, side in zip(self._size(pixels.shape[2:]), pixels.shape[2:], strict=True))
        if not (bottom or right):
            return self.info.as_input(pixels)
        padding = (0, right, 0, bottom)
        if not self.info.include_preprocessing:
            return F.pad(self.info.as_input(pixels), padding)
        mean = torch.tensor([round(255 * value) for value in self.info.preprocessing.mean], dtype=torch.uint8)
        shifted = pixels - mean.view(-1, 1, 1)  # bytes wrap around here, and back below
        return self.info.as_input(F.pad(shifted, padding) + mean.view(-1, 1, 1))

    def _size(self, size: torch.Size) -> tuple[int, int]:
        """(height, width) that the file takes an image of this size at."""
        height, width = size
        if self.info.task != SEGMENTATION:
            return height, width
        if not self.info.any_size:
            return self.info.preprocessing.size
        return height + -height % STRIDES[-1], width + -width % STRIDES[-1]


def open_exported(
    path: "str | Path | ExportedModel",
    *,
    device: str | torch.device | None = None,
    threads: int | None = None,
    runtime: str | None = None,
) -> ExportedModel | None:
    """An exported file, opened unless it is already; None for the name of anything else, which PyTorch runs.

    Raises:
        ValueError: as :class:`ExportedModel`; or PyTorch does not run with these ``threads`` or this ``runtime``.
    """
    if isinstance(path, ExportedModel):
        return path
    if is_exported(path):
        return ExportedModel(path, device=device, threads=threads, runtime=runtime)
    check_running(runtime, threads)
    if runtime in FILE_RUNTIMES:
        raise ValueError(f"{runtime} runs exported files: write one with `volo export {path} --to …`")
    return None
