"""Does an exported file say what PyTorch says, and how fast?"""

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

#: precision → the largest difference of a logit that is rounding, as a share of the largest logit (at least 1). What
#: quantization changes is no rounding: int8 is judged by its answers alone.
BOUNDS = {"fp32": 1e-4, "fp16": 2e-2, "int8": None}
#: precision → the least share of images (for segmentation, pixels) with PyTorch's answer.
AGREEMENTS = {"fp32": 0.99, "fp16": 0.98, "int8": 0.98}
#: Seconds of timing.
_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """What comes of resizing in a file in the place of Pillow.

    Attributes:
        largest_pixel: the largest difference of a pixel, of 0–255, and mean_pixel: the mean one.
        difference: the largest of any logit or probability, between the file and PyTorch given Pillow's pixels.
        agreement: the share of images with the same likeliest class.
        least_agreement: what it must reach.
    """

    largest_pixel: float
    mean_pixel: float
    difference: float
    agreement: float
    least_agreement: float = 0.85  # of the package's seven photos, one may be a close call


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What came of comparing an exported file with PyTorch on real images.

    Attributes:
        runtime: that ran the file.
        images: how many there were. batches: the sizes of the batches that they came in.
        sizes: the (height, width) that they were shown at.
        difference: the largest of any logit; of a file that gives probabilities, of any probability.
        bound: what it must stay below; None where answers alone are judged.
        agreement: the share of images (for segmentation, of pixels) with the same likeliest class.
        least_agreement: what it must reach.
        milliseconds: median time of one image, of PyTorch and of the file, on as many threads as each takes.
        resizing: of a file that resizes; the times then contain that.
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
        """What is wrong with the file, in words."""
        said = []
        if self.bound is not None and not self.difference <= self.bound:
            said.append(f"outputs differ by up to {self.difference:.2g}, more than {self.bound:.2g}")
        if not self.agreement >= self.least_agreement:
            said.append(f"{self.agreement:.1%} of the answers agree, fewer than {self.least_agreement:.0%}")
        resizing = self.resizing
        if resizing is not None and not resizing.agreement >= resizing.least_agreement:
            least = f"{resizing.least_agreement:.0%}"
            said.append(f"{resizing.agreement:.1%} of the answers are those of Pillow's pixels, fewer than {least}")
        return said

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the verdict."""
        return {"passed": not self.problems, "problems": self.problems, **asdict(self)}


def verify(model: nn.Module, runtime: Runtime, info: ExportInfo, pixels: Sequence[Tensor]) -> ExportReport:
    """Compare a file with the model that it was made from.

    Args:
        model: in evaluation mode, normalized images to logits.
        runtime: that has loaded the file.
        info: what the file says of itself.
        pixels: for each size of the images, the images themselves, (N, channels, H, W) uint8.
    """
    reference = _reference(model, info)
    count = len(pixels[0])
    batches = (1,) if info.one_by_one else tuple(sorted({1, min(count, 5)}))
    compared = []
    for images in pixels:
        expected = torch.cat([reference(part) for part in images.split(8)])
        for batch in batches:
            got = torch.cat([runtime(info.as_input(part)) for part in images.split(batch)])
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
    """The same of a file that resizes ``photos``, which are decoded and of any size.

    PyTorch is given the pixels that the same formula makes, for the strict comparison, and Pillow's beside them. The
    first five photos, cut to the smallest of them, come as a batch, too.
    """
    reference, preprocessing = _reference(model, info), info.preprocessing
    crop, compared, beside_pillow = PhotoCrop(preprocessing), _Comparison(), _Comparison()
    pixel_differences: list[Tensor] = []
    first: list[Image.Image | np.ndarray] = []
    for photo in photos:
        batch, pillow = _batch(as_array(photo)), _batch(preprocessing.pixels(photo))
        got, resized = runtime(info.as_input(batch)), crop(info.as_input(batch))
        compared.add(got, reference(resized))
        beside_pillow.add(got, reference(pillow))
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
            difference=beside_pillow.difference,
            agreement=beside_pillow.agreement,
        ),
    )


@dataclass
class _Comparison:
    """Outputs (B, K, ...) beside those expected."""

    got: list[Tensor] = field(default_factory=list)
    expected: list[Tensor] = field(default_factory=list)

    def add(self, got: Tensor, expected: Tensor) -> None:
        self.got.append(got)
        self.expected.append(expected)

    @property
    def largest(self) -> float:
        """Of the outputs expected, at least 1."""
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


def _report(runtime: Runtime, info: ExportInfo, compared: Sequence[_Comparison], **others: Any) -> ExportReport:
    bound = BOUNDS[info.precision]
    return ExportReport(
        runtime=runtime.name,
        difference=max(comparison.difference for comparison in compared),
        bound=None if bound is None else bound * max(comparison.largest for comparison in compared),
        agreement=min(comparison.agreement for comparison in compared),
        least_agreement=AGREEMENTS[info.precision],
        **others,
    )


def _reference(model: nn.Module, info: ExportInfo) -> Callable[[Tensor], Tensor]:
    """PyTorch, from preprocessed pixels (B, channels, H, W), 0–255, to what the file is to give."""
    run = PyTorchRuntime(model)

    def outputs(pixels: Tensor) -> Tensor:
        logits = run(info.preprocessing.normalize(pixels))
        return logits.softmax(dim=1) if info.include_softmax else logits

    return outputs


def _batch(image: np.ndarray) -> Tensor:
    """(H, W, channels) uint8 as (1, channels, H, W)."""
    return torch.from_numpy(image)[None].permute(0, 3, 1, 2)


def _milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians; the calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    while len(times["PyTorch"]) < 3 or (len(times["PyTorch"]) < 50 and time.perf_counter() - begin < _SECONDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
