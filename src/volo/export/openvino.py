"""OpenVINO's own format, made from ONNX."""

from pathlib import Path
from typing import Any

from volo.runtime.export_info import KEY


def read_as_openvino(path: Path) -> Any:
    """An ONNX file as a model of OpenVINO's."""
    import openvino

    return openvino.Core().read_model(path)  # convert_model, which does the same, reports its use to Intel


def write_openvino(model: Any, path: Path, description: str | None = None, *, half: bool = False) -> None:
    """Write a model of OpenVINO's as ``path``, which ends in ``.xml``, and its weights beside it, in ``.bin``.

    Args:
        model: of :func:`read_as_openvino`.
        path: the file.
        description: kept in ``rt_info``.
        half: keep the weights in float16; OpenVINO then computes in what suits the processor.
    """
    import openvino

    if description is not None:
        model.set_rt_info(description, [KEY])
    openvino.save_model(model, path, compress_to_fp16=half)
