"""Two classes that map preprocessed pixels to logits: one runs a module, the other an exported file.

Both are called alike. They map pixels (B, channels, H, W) uint8, 0–255, to logits: (B, K) for classification,
(B, K, H, W) for segmentation.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.data import Preprocessing
from volo.messages import quoted, reason_of
from volo.models.pyramid import STRIDES
from volo.models.weights.model_folder import SEGMENTATION
from volo.runtime.export_info import is_exported, parse_description
from volo.runtime.runtimes import FILE_RUNTIMES, check_running, open_runtime, torch_threads


class ModuleForward:
    """A trained PyTorch module; the logits stay on its device.

    Args:
        module: maps normalized images to logits.
        preprocessing: the model's preprocessing.
        device: the module's device.
        threads: number of CPU threads; None keeps PyTorch's number.
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
    """An exported file in a runtime; the logits are float32 on the CPU.

    If the file gives probabilities, their logarithms are returned, which are logits too. If the file of a
    segmentation model takes only one size, or only multiples of 32 pixels, smaller images are padded with the mean
    color at the right and at the bottom, and the logits are cropped to the image, as
    :class:`volo.models.SegmentationModel` does.

    Args:
        path: a file that ``volo export`` wrote.
        device: None or the CPU.
        threads: number of CPU threads; None leaves the choice to the runtime.
        runtime: one of ``FILE_RUNTIMES``; None takes the runtime that the file is made for.
        trust: whether a ``.pt2`` file may run code that is in it; AOTInductor's packages need this.

    Attributes:
        path: the file.
        info: its description.

    Raises:
        ValueError: The file or the runtime does not exist, the runtime cannot open the file, the file could run code
            and is not trusted, or ``device`` is not the CPU. Also raised by a call if the runtime cannot run the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        threads: int | None = None,
        runtime: str | None = None,
        trust: bool = False,
    ) -> None:
        if device is not None and str(device).partition(":")[0] != "cpu":
            raise ValueError(f"{path} is an exported file, which runs on the CPU, not on {device}")
        self.path = path
        self._runtime = open_runtime(path, runtime=runtime, threads=threads, trust=trust)
        self.info = parse_description(self._runtime.description, path)

    def __str__(self) -> str:
        return str(self.path)

    def check_task(self, task: str, user: str) -> None:
        """Raise an error unless the model is for a task.

        Args:
            task: the required task.
            user: the class that requires it, for the error message.

        Raises:
            ValueError: The model is for another task.
        """
        if self.info.task != task:
            raise ValueError(f"{self.path} is a {self.info.task} model; {user} takes {task} models")

    def __call__(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        batch = self._input(pixels)
        batches = batch.split(1) if self.info.one_by_one else [batch]
        try:
            logits = torch.cat([self._runtime(each) for each in batches])
        except Exception as error:  # each runtime raises its own types
            raise ValueError(f"{self.path} is not a model that can be run: {reason_of(error)}") from error
        expected = (len(batch), len(self.info.class_names))
        if logits.shape[:2] != expected or logits.dim() != (4 if self.info.task == SEGMENTATION else 2):
            raise ValueError(
                f"{self.path} has outputs of shape {tuple(logits.shape)} for {expected[0]} images, and its description "
                f"has {expected[1]} classes; export the model again"
            )
        if self.info.include_softmax:
            logits = logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
        return logits[..., :height, :width] if self.info.task == SEGMENTATION else logits

    def _input(self, pixels: Tensor) -> Tensor:
        """Return the file's input for pixels (B, channels, H, W), padded to a size that the file takes."""
        height, width = pixels.shape[2:]
        padded_height, padded_width = self._padded_size(height, width)
        bottom, right = padded_height - height, padded_width - width
        if not (bottom or right):
            return self.info.as_input(pixels)
        padding = (0, right, 0, bottom)
        if not self.info.include_preprocessing:
            return F.pad(self.info.as_input(pixels), padding)
        mean = torch.tensor(self.info.preprocessing.mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        shifted = pixels - mean.view(-1, 1, 1)  # uint8 values wrap around here, and the addition below wraps them back
        return self.info.as_input(F.pad(shifted, padding) + mean.view(-1, 1, 1))

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) to which an image of this size is padded for the file."""
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
    trust: bool = False,
) -> ExportedModel | None:
    """Open an exported file; return None if the path names a model that PyTorch runs.

    Args:
        path: an exported file, one that is open already (returned as it is), or any other model.
        device: see :class:`ExportedModel`.
        threads: see :class:`ExportedModel`.
        runtime: see :class:`ExportedModel`.
        trust: see :class:`ExportedModel`.

    Raises:
        ValueError: The file cannot be opened (see :class:`ExportedModel`), ``threads`` or ``runtime`` is not valid, or
            ``runtime`` runs only exported files and ``path`` is not one.
    """
    if isinstance(path, ExportedModel):
        return path
    if is_exported(path):
        return ExportedModel(path, device=device, threads=threads, runtime=runtime, trust=trust)
    check_running(runtime, threads)
    if runtime in FILE_RUNTIMES:
        raise ValueError(f"{runtime} runs exported files: write one with `volo export {quoted(path)} --to …`")
    return None
