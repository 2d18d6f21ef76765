"""Does an exported file say what PyTorch says, and how fast?"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from volo.inference.exported import Exported
from volo.inference.runtimes import PyTorchRuntime, Runtime

#: precision → the largest difference of a logit that is rounding, as a share of the largest logit (at least 1). What
#: quantisation changes is no rounding: int8 is judged by its answers alone.
BOUNDS = {"fp32": 1e-4, "fp16": 2e-2, "int8": None}
#: precision → the least share of images (for segmentation, pixels) with PyTorch's answer.
AGREEMENTS = {"fp32": 0.99, "fp16": 0.98, "int8": 0.98}
#: Seconds of timing.
_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Report:
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

    @property
    def problems(self) -> list[str]:
        """What is wrong with the file, in words."""
        said = []
        if self.bound is not None and not self.difference <= self.bound:
            said.append(f"outputs differ by up to {self.difference:.2g}, more than {self.bound:.2g}")
        if not self.agreement >= self.least_agreement:
            said.append(f"{self.agreement:.1%} of the answers agree, fewer than {self.least_agreement:.0%}")
        return said

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the verdict."""
        return {"passed": not self.problems, "problems": self.problems, **asdict(self)}


def verify(model: nn.Module, runtime: Runtime, described: Exported, pixels: Sequence[Tensor]) -> Report:
    """Compare a file with the model that it was made from.

    Args:
        model: in evaluation mode, normalised images to logits.
        runtime: that has loaded the file.
        described: what the file says of itself.
        pixels: for each size of the images, the images themselves, (N, channels, H, W) uint8.
    """
    preprocessing = described.preprocessing
    reference = PyTorchRuntime(model)
    count = len(pixels[0])
    batches = (1,) if described.one_by_one else tuple(sorted({1, min(count, 5)}))
    difference, largest, agreeing = 0.0, 1.0, []
    for images in pixels:
        expected = torch.cat([reference(preprocessing.normalize(part)) for part in images.split(8)])
        expected = expected.softmax(dim=1) if described.include_softmax else expected
        largest = max(largest, float(expected.abs().max()))
        for batch in batches:
            parts = [described.as_input(part) for part in images.split(batch)]
            got = torch.cat([runtime(part) for part in parts])
            difference = max(difference, float((got - expected).abs().nan_to_num(torch.inf).max()))
            agreeing.append(float((got.argmax(dim=1) == expected.argmax(dim=1)).float().mean()))
    bound = BOUNDS[described.precision]
    one = pixels[0][:1]
    return Report(
        runtime=runtime.name,
        images=count,
        batches=batches,
        sizes=tuple((images.shape[2], images.shape[3]) for images in pixels),
        difference=difference,
        bound=None if bound is None else bound * largest,
        agreement=min(agreeing),
        least_agreement=AGREEMENTS[described.precision],
        milliseconds=_milliseconds(
            {
                "PyTorch": lambda: reference(preprocessing.normalize(one)),
                runtime.name: lambda: runtime(described.as_input(one)),
            }
        ),
    )


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
