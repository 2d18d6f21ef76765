"""Exported graphs as functions of an array, in the runtimes that run them: PyTorch is not needed, nor imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

#: A batch as the graph takes it → its first output.
Session = Callable[[np.ndarray], np.ndarray]


def onnx_runtime(path: str | Path, *, threads: int | None = None) -> Session:
    """An ONNX file in ONNX Runtime on the CPU; without ``threads`` the runtime takes as many as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def openvino(path: str | Path, *, threads: int | None = None) -> Session:
    """An IR (``.xml``) or ONNX file in OpenVINO on the CPU, float32 where the file does not say less."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda batch: request.infer([batch])[0]


#: runtime → what opens a file in it.
SESSIONS = {"onnxruntime": onnx_runtime, "openvino": openvino}
