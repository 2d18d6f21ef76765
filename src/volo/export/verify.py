"""Comparison of an exported file with PyTorch: outputs, predictions and speed."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from volo.data.preprocessing import as_array
from volo.export.resize import PhotoCrop
from volo.runtime.export_info import ExportInfo
from volo.runtime.runtimes import PyTorchRuntime, Runtime

#: precision → the largest difference of a logit that rounding may cause, relative to the largest logit (at least 1).
#: int8 has no bound, since quantization changes logits by more than rounding: only its predictions are compared.
BOUNDS = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 2e-2, "int8": None}
#: precision → the smallest share of images (for segmentation, of pixels) that must have PyTorch's prediction.
AGREEMENTS = {"fp32": 0.99, "bf16": 0.98, "fp16": 0.98, "int8": 0.98}
#: Seconds for measuring the speed.
_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """Comparison of a file that resizes photos with PyTorch on photos that Pillow resized.

    Attributes:
        largest_pixel: the largest difference of a pixel, in units of 0–255.
        mean_pixel: the mean difference of the pixels, in units of 0–255.
        difference: the largest difference of a logit or probability.
        agreement: the share of images with the same predicted class.
        least_agreement: the smallest share that passes.
    """

    largest_pixel: float
    mean_pixel: float
    difference: float
    agreement: float
    least_agreement: float = 0.85  # one of the package's seven photos may be a close decision


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """Result of comparing an exported file with PyTorch on real images.

    Attributes:
        runtime: the runtime that ran the file.
        images: the number of images.
        batches: the batch sizes.
        sizes: the sizes (height, width) of the images.
        difference: the largest difference of a logit, or of a probability if the file gives probabilities.
        bound: the largest ``difference`` that passes; None if only predictions are compared.
        agreement: the share of images (for segmentation, of pixels) with the same predicted class.
        least_agreement: the smallest ``agreement`` that passes.
        milliseconds: median time for one image, of PyTorch and of the file, each with its own number of threads.
        resizing: the comparison with Pillow, if the file resizes photos; the times then include resizing.
    """

    runtime: str
    images: int
    batches: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    difference: float
    bound: float | None
    agreement: float
    least_agreement: float
    milliseconds: dict[str, float]
    resizing: Resizing | None = None

    @property
    def problems(self) -> list[str]:
        """Descriptions of the values that did not pass; empty if the file passed."""
        problems = []
        if self.bound is not None and not self.difference <= self.bound:
            problems.append(f"outputs differ by up to {self.difference:.2g}, more than {self.bound:.2g}")
        if not self.agreement >= self.least_agreement:
            problems.append(f"{self.agreement:.1%} of the predictions agree, fewer than {self.least_agreement:.0%}")
        resizing = self.resizing
        if resizing is not None and not resizing.agreement >= resizing.least_agreement:
            problems.append(
                f"{resizing.agreement:.1%} of the predictions agree with PyTorch on Pillow's pixels, fewer than "
                f"{resizing.least_agreement:.0%}"
            )
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, with ``passed`` and ``problems``."""
        return {"passed": not self.problems, "problems": self.problems, **asdict(self)}


def verify(model: nn.Module, runtime: Runtime, info: ExportInfo, pixels: Sequence[Tensor]) -> ExportReport:
    """Compare an exported file with the model that was exported.

    Args:
        model: the model in evaluation mode; it maps normalized images to logits.
        runtime: the runtime, with the file loaded.
        info: the file's description.
        pixels: the images at one or more sizes, each (N, channels, H, W) uint8 with the same N.
    """
    reference = _reference(model, info)
    count = len(pixels[0])
    batches = (1,) if info.one_by_one else tuple(sorted({1, min(count, 5)}))
    compared = []
    for images in pixels:
        expected = torch.cat([reference(each) for each in images.split(8)])
        for batch in batches:
            got = torch.cat([runtime(info.as_input(each)) for each in images.split(batch)])
            compared.append(_Comparison([got], [expected]))
    one = pixels[0][:1]
    return _report(
        runtime,
        info,
        compared,
        images=count,
        batches=batches,
        sizes=tuple((images.shape[2], images.shape[3]) for images in pixels),
        milliseconds=_milliseconds(
            {"PyTorch": lambda: reference(one), runtime.name: lambda: runtime(info.as_input(one))}
        ),
    )


def verify_photos(
    model: nn.Module, runtime: Runtime, info: ExportInfo, photos: Iterable[Image.Image | np.ndarray]
) -> ExportReport:
    """Compare an exported file that resizes photos with the model that was exported.

    The strict comparison gives PyTorch the pixels of :class:`PhotoCrop`, which the file computes, too. A second one,
    ``resizing``, gives PyTorch Pillow's pixels. The first five photos are also compared as one batch, after they are
    cut to their smallest height and width.

    Args:
        model: the model in evaluation mode; it maps normalized images to logits.
        runtime: the runtime, with the file loaded.
        info: the file's description.
        photos: decoded photos of any size.
    """
    reference, preprocessing = _reference(model, info), info.preprocessing
    crop, compared, with_pillow = PhotoCrop(preprocessing), _Comparison(), _Comparison()
    pixel_differences: list[Tensor] = []
    first: list[Image.Image | np.ndarray] = []
    for photo in photos:
        batch, pillow = _batch(as_array(photo)), _batch(preprocessing.pixels(photo))
        got, resized = runtime(info.as_input(batch)), crop(info.as_input(batch))
        compared.add(got, reference(resized))
        with_pillow.add(got, reference(pillow))
        pixel_differences.append((resized - pillow).abs())
        first += [photo] if len(first) < 5 else []
    batches = (1,) if info.one_by_one or len(first) == 1 else (1, len(first))
    if len(batches) > 1:
        arrays = [as_array(photo) for photo in first]
        height, width = (min(array.shape[side] for array in arrays) for side in (0, 1))
        batch = info.as_input(torch.cat([_batch(array[:height, :width]) for array in arrays]))
        compared.add(runtime(batch), reference(crop(batch)))
    one = first[0]
    return _report(
        runtime,
        info,
        [compared],
        images=len(pixel_differences),
        batches=batches,
        sizes=(preprocessing.size,),
        milliseconds=_milliseconds(
            {
                "PyTorch": lambda: reference(_batch(preprocessing.pixels(one))),
                runtime.name: lambda: runtime(info.as_input(_batch(as_array(one)))),
            }
        ),
        resizing=Resizing(
            largest_pixel=max(float(difference.max()) for difference in pixel_differences),
            mean_pixel=statistics.fmean(float(difference.mean()) for difference in pixel_differences),
            difference=with_pillow.difference,
            agreement=with_pillow.agreement,
        ),
    )


@dataclass
class _Comparison:
    """Outputs (B, K, ...) of a file, and the expected ones."""

    got: list[Tensor] = field(default_factory=list)
    expected: list[Tensor] = field(default_factory=list)

    def add(self, got: Tensor, expected: Tensor) -> None:
        self.got.append(got)
        self.expected.append(expected)

    @property
    def largest(self) -> float:
        """The largest absolute value of the expected outputs, at least 1."""
        return max(1.0, *(float(expected.abs().max()) for expected in self.expected))

    @property
    def difference(self) -> float:
        pairs = zip(self.got, self.expected, strict=True)
        return max(float((got - expected).abs().nan_to_num(torch.inf).max()) for got, expected in pairs)

    @property
    def agreement(self) -> float:
        pairs = zip(self.got, self.expected, strict=True)
        return float(
            torch.cat([(got.argmax(1) == expected.argmax(1)).flatten() for got, expected in pairs]).float().mean()
        )


def _report(runtime: Runtime, info: ExportInfo, compared: Sequence[_Comparison], **fields: Any) -> ExportReport:
    bound = BOUNDS[info.precision]
    return ExportReport(
        runtime=runtime.name,
        difference=max(comparison.difference for comparison in compared),
        bound=None if bound is None else bound * max(comparison.largest for comparison in compared),
        agreement=min(comparison.agreement for comparison in compared),
        least_agreement=AGREEMENTS[info.precision],
        **fields,
    )


def _reference(model: nn.Module, info: ExportInfo) -> Callable[[Tensor], Tensor]:
    """Return a function that computes the file's expected outputs with PyTorch.

    It takes preprocessed pixels (B, channels, H, W), 0–255.
    """
    run = PyTorchRuntime(model)

    def outputs(pixels: Tensor) -> Tensor:
        logits = run(info.preprocessing.normalize(pixels))
        return logits.softmax(dim=1) if info.include_softmax else logits

    return outputs


def _batch(image: np.ndarray) -> Tensor:
    """Return an image (H, W, channels) uint8 as a batch (1, channels, H, W)."""
    return torch.from_numpy(image)[None].permute(0, 3, 1, 2)


def _milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of each call; the calls are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    while len(times["PyTorch"]) < 3 or (len(times["PyTorch"]) < 50 and time.perf_counter() - begin < _SECONDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
