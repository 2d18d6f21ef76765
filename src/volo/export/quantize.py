"""int8 quantization with NNCF (for OpenVINO) and ONNX Runtime, calibrated on images.

Layers that lose most accuracy stay in float. Convolutions always do: they lose most (docs/export.md has the figures)
and are a small share of the file. The other layers are chosen by measurement, for each model.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volo.logs import silenced
from volo.runtime.export_info import ExportInfo
from volo.runtime.runtimes import OnnxRuntime, OpenVINORuntime, Runtime

#: Layers are put back to float until this share of the calibration images keeps its prediction.
KEPT = 0.99
#: ONNX Runtime: how often layers are put back to float, their share each time, and the images for measuring them.
_ROUNDS, _SHARE, _MEASURED = 5, 0.1, 8
#: NNCF: number of images for ranking the layers; with all 300 this would take half an hour for D1 on two cores.
_RANKED = 32
_QUANTIZED = ("Gemm", "MatMul")

Step = Callable[[str], None]


def quantize_openvino(plain: Path, done: Path, info: ExportInfo, pixels: Tensor, on_step: Step) -> None:
    """Write an ONNX file as an OpenVINO model in int8, with NNCF.

    NNCF quantizes all layers except convolutions. Then it puts layers back to float, beginning with those whose
    quantization changes the outputs most, until ``KEPT`` of the images keep their prediction. It shows its own
    progress.

    Args:
        plain: the ONNX file.
        done: the ``.xml`` file to write; its ``.bin`` file is written next to it.
        info: the description to store in the file.
        pixels: calibration images, (N, channels, H, W) uint8.
        on_step: called with a line before each step.
    """
    # NNCF reports each use to Google Analytics unless this is set before its import.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    from volo.export.openvino import read_as_openvino, write_openvino

    model, inputs = read_as_openvino(plain), _inputs(info, pixels)
    expected = _predictions(OpenVINORuntime(plain), inputs)

    def agreement(compiled: Any, indices: Iterable[int]) -> tuple[float, None]:
        return float(np.mean([int(compiled([inputs[i]])[0].argmax()) == expected[i] for i in indices])), None

    on_step(f"quantizing for OpenVINO, calibrated on {len(inputs)} images")
    with silenced("nncf"):
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
    """Write an ONNX file in int8, with ONNX Runtime's static quantization.

    Products with a weight matrix are quantized, the weights per channel. Those of class attention, which has a stack of
    matrices, stay in float: among the releases of ONNX Runtime up to 1.32, only that one runs them in int8, and the one
    for browsers does not. While fewer than ``KEPT`` of the images keep their
    prediction, the tenth of the layers whose inputs lose most (lowest signal-to-noise ratio, as ONNX Runtime measures
    it) is put back to float.

    Args:
        plain: the ONNX file.
        done: the file to write.
        info: the description, from which the input format is read.
        pixels: calibration images, (N, channels, H, W) uint8.
        on_step: called with a line before each step and with the result.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    inputs, floating = _inputs(info, pixels), OnnxRuntime(plain)
    expected = _predictions(floating, inputs)
    kept_float = _stacked(plain)
    for attempt in range(_ROUNDS + 1):
        on_step(f"quantizing for ONNX Runtime, calibrated on {len(inputs)} images, {len(kept_float)} layers in float")
        with silenced("root"):
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
        same = float(np.mean(_predictions(OnnxRuntime(done), inputs) == expected))
        on_step(f"{same:.1%} of the images keep their prediction")
        if same >= KEPT or attempt == _ROUNDS:
            return
        kept_float += _worst(plain, done, inputs[:_MEASURED], set(kept_float))


def saturates() -> bool:
    """Return whether 8-bit products overflow their 16-bit sums on this processor: on x86 without VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return not (cpuinfo.exists() and "vnni" in cpuinfo.read_text(encoding="utf-8", errors="replace"))


def _inputs(info: ExportInfo, pixels: Tensor) -> list[np.ndarray]:
    """Return the images as batches of one, in the file's input format."""
    return [info.as_input(image).numpy() for image in pixels.split(1)]


def _predictions(runtime: Runtime, inputs: list[np.ndarray]) -> np.ndarray:
    return np.array([int(runtime(torch.from_numpy(images)).argmax()) for images in inputs])


class _Reader:
    """The reader of calibration images that ONNX Runtime expects; it reports the progress."""

    def __init__(self, inputs: list[np.ndarray], on_step: Step) -> None:
        self.inputs, self.on_step, self.done = inputs, on_step, 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.get_next, None)

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self.done == len(self.inputs):
            return None
        self.done += 1
        if self.done % max(1, len(self.inputs) // 4) == 0:
            self.on_step(f"{self.done} of {len(self.inputs)} images read")
        return {"images": self.inputs[self.done - 1]}


def _stacked(plain: Path) -> list[str]:
    """Return the names of layers with stacked weight matrices: class attention, with one matrix for each head."""
    import onnx

    graph = onnx.load(plain, load_external_data=False).graph
    stacks = {weights.name for weights in graph.initializer if len(weights.dims) > 2}
    return [node.name for node in graph.node if node.op_type in _QUANTIZED and node.input[1] in stacks]


def _worst(plain: Path, quantized: Path, inputs: list[np.ndarray], excluded: set[str]) -> list[str]:
    """Return the names of the quantized layers whose inputs lose most: ``_SHARE`` of the layers not excluded."""
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
