"""Sessions of ONNX Runtime and OpenVINO, opened with the same settings everywhere in volo.

This module does not import PyTorch: a benchmark's worker process must be able to run without it.
"""

from pathlib import Path
from typing import Any


def onnx_session(path: str | Path, *, threads: int | None = None) -> Any:
    """Open an ONNX file as an ``onnxruntime.InferenceSession`` on the CPU.

    Args:
        path: the file.
        threads: number of threads; None leaves the choice to ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # ONNX Runtime would try a damaged file twice, and print so.
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def openvino_request(model: Any, *, threads: int | None = None) -> Any:
    """Compile a model as an ``openvino.InferRequest`` on the CPU, computing in float32.

    By default OpenVINO would compute in bfloat16 on processors that have it.

    Args:
        model: a file, or a model of OpenVINO.
        threads: number of threads; None leaves the choice to OpenVINO.
    """
    import openvino

    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
