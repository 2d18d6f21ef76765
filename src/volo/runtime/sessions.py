"""Exported graphs opened in the runtimes that run them, the same settings everywhere; PyTorch is not imported."""

from pathlib import Path
from typing import Any


def onnx_session(path: str | Path, *, threads: int | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU; without ``threads`` with as many as the runtime likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def openvino_request(model: Any, *, threads: int | None = None) -> Any:
    """An ``openvino.InferRequest`` on the CPU for a file or a model that was read, computing as precisely as written.

    Left to itself OpenVINO takes bfloat16 where the processor has it.
    """
    import openvino

    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
