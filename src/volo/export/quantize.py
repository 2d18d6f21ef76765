"""int8 by NNCF (OpenVINO) and by ONNX Runtime, fitted to images, what suffers most kept in float.

Convolutions suffer most (docs/export.md has the figures) and are the least of a file: they stay in float always. What
else does is measured, model by model.
"""

import logging
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volo.runtime.export_info import ExportInfo
from volo.runtime.runtimes import OnnxRuntime, OpenVINORuntime, Runtime

#: The share of the images fitted to whose answer must stay, for no more layers to be put back to float.
KEPT = 0.99
#: ONNX Runtime: how often layers are put back, the share of them at a time, and the images that they are measured on.
_ROUNDS, _SHARE, _MEASURED = 5, 0.1, 8
#: NNCF: of how many images it compares the layers' outputs; all 300 would take half an hour for D1 on two cores.
_RANKED = 32
_QUANTIZED = ("Gemm", "MatMul")
#: ONNX Runtime that multiplies by a stack of matrices quantized by channel; 1.23, the last for Python 3.10, does not.
_STACKS = "1.32"

Step = Callable[[str], None]


def quantize_openvino(plain: Path, done: Path, info: ExportInfo, pixels: Tensor, on_step: Step) -> None:
    """Write an ONNX file as an OpenVINO model in int8, by NNCF.

    NNCF quantizes every other layer, and then puts layers back to float, those first whose quantization changes the
    outputs most, until ``KEPT`` of the images keep their answer. It shows its own progress.

    Args:
        plain: the ONNX file.
        done: the file to write; its weights come beside it.
        info: what stands in it.
        pixels: (N, channels, H, W) uint8.
        on_step: told what is done next.
    """
    # NNCF reports each use to Google Analytics unless this is set before it is imported; nobody asked it to.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    from volo.export.openvino import read_as_openvino, write_openvino

    model, inputs = read_as_openvino(plain), _inputs(info, pixels)
    expected = _answers(OpenVINORuntime(plain), inputs)

    def agreement(compiled: Any, places: Iterable[int]) -> tuple[float, None]:
        return float(np.mean([int(compiled([inputs[place]])[0].argmax()) == expected[place] for place in places])), None

    on_step(f"quantizing for OpenVINO, fitted to {len(inputs)} images")
    with _quiet("nncf"):
        quantized = nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset(inputs),
            validation_dataset=nncf.Dataset(list(range(len(inputs)))),
            validation_fn=agreement,
            max_drop=1 - KEPT,
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(types=["Convolution"], validate=False),
            subset_size=len(inputs),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=_RANKED),
            advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE if saturates() else nncf.OverflowFix.DISABLE
            ),
        )
    write_openvino(quantized, done, info.to_json())


def quantize_onnx(plain: Path, done: Path, info: ExportInfo, pixels: Tensor, on_step: Step) -> None:
    """Write an ONNX file in int8, by ONNX Runtime's static quantization: the arguments of ``quantize_openvino``.

    Products with weights are quantized, by channel. While fewer than ``KEPT`` of the images
    keep their answer, the tenth of them whose inputs lose most (signal to noise, by ONNX Runtime's own measure) are
    put back to float.
    """
    import onnxruntime
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from packaging.version import Version

    inputs, floating = _inputs(info, pixels), OnnxRuntime(plain)
    expected = _answers(floating, inputs)
    kept_float = _stacked(plain) if Version(onnxruntime.__version__) < Version(_STACKS) else []
    for turn in range(_ROUNDS + 1):
        on_step(f"quantizing for ONNX Runtime, fitted to {len(inputs)} images, {len(kept_float)} layers in float")
        with _quiet("root"):
            quantize_static(
                plain,
                done,
                _Reader(inputs, on_step),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTIZED),
                per_channel=True,
                reduce_range=saturates(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept_float,
                extra_options={"MatMulConstBOnly": True},
            )
        same = float(np.mean(_answers(OnnxRuntime(done), inputs) == expected))
        on_step(f"{same:.1%} of the images keep their answer")
        if same >= KEPT or turn == _ROUNDS:
            return
        kept_float += _worst(plain, done, inputs[:_MEASURED], set(kept_float))


def saturates() -> bool:
    """Whether products of full 8-bit ranges overflow 16 bits on this processor: x86 without VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    facts = Path("/proc/cpuinfo")
    return not (facts.exists() and "vnni" in facts.read_text(encoding="utf-8", errors="replace"))


def _inputs(info: ExportInfo, pixels: Tensor) -> list[np.ndarray]:
    """Batches of one image as the file takes them."""
    return [info.as_input(image).numpy() for image in pixels.split(1)]


def _answers(runtime: Runtime, inputs: list[np.ndarray]) -> np.ndarray:
    return np.array([int(runtime(torch.from_numpy(images)).argmax()) for images in inputs])


class _Reader:
    """Images as ONNX Runtime's calibration reads them, with progress."""

    def __init__(self, inputs: list[np.ndarray], on_step: Step) -> None:
        self.inputs, self.on_step, self.done = inputs, on_step, 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.get_next, None)

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self.done == len(self.inputs):
            return None
        self.done += 1
        if self.done % max(1, len(self.inputs) // 4) == 0:
            self.on_step(f"{self.done} of {len(self.inputs)} images seen")
        return {"images": self.inputs[self.done - 1]}


def _stacked(plain: Path) -> list[str]:
    """Names of the layers whose weights are a stack of matrices: those of class attention, one for each head."""
    import onnx

    graph = onnx.load(plain, load_external_data=False).graph
    stacks = {weights.name for weights in graph.initializer if len(weights.dims) > 2}
    return [node.name for node in graph.node if node.op_type in _QUANTIZED and node.input[1] in stacks]


def _worst(plain: Path, quantized: Path, inputs: list[np.ndarray], excluded: set[str]) -> list[str]:
    """Names of the quantized layers whose inputs lose most, a share of all of them."""
    import onnx
    from onnxruntime.quantization import qdq_loss_debug as debug

    def activations(path: Path) -> dict[str, list[np.ndarray]]:
        watched = path.with_name(f"watched.{path.name}")
        debug.modify_model_output_intermediate_tensors(path, watched)
        return debug.collect_activations(str(watched), _Reader(inputs, lambda step: None))

    matched = debug.create_activation_matching(activations(quantized), activations(plain))
    noise = {name: error["qdq_err"] for name, error in debug.compute_activation_error(matched).items()}
    layers = {
        node.name: noise[node.input[0]]
        for node in onnx.load(plain, load_external_data=False).graph.node
        if node.op_type in _QUANTIZED and node.input[0] in noise and node.name not in excluded
    }
    return sorted(layers, key=lambda name: layers[name])[: max(1, round(_SHARE * len(layers)))]


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without what a library logs of its steps."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
