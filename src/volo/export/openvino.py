"""Export to OpenVINO's format, from an ONNX file."""

from pathlib import Path
from typing import Any

from volo.runtime.export_info import KEY


def read_as_openvino(path: Path) -> Any:
    """Read an ONNX file as a model of OpenVINO."""
    import openvino

    return openvino.Core().read_model(path)  # convert_model does the same, but reports its use to Intel


def write_openvino(model: Any, path: Path, description: str | None = None, *, half: bool = False) -> None:
    """Write a model of OpenVINO as an ``.xml`` file, and its weights as a ``.bin`` file next to it.

    Args:
        model: from :func:`read_as_openvino`.
        path: the ``.xml`` file.
        description: JSON to store in ``rt_info``.
        half: store the weights in float16; OpenVINO chooses the dtype of the computation when it loads the file.

    Raises:
        OSError: The disk is full.
    """
    import openvino

    if description is not None:
        model.set_rt_info(description, [KEY])
    try:
        openvino.save_model(model, path, compress_to_fp16=half)
    except RuntimeError:
        # OpenVINO does not pass on what the system said: on a full disk, writing more says it again.
        with path.with_suffix(".bin").open("ab") as file:
            file.write(bytes(2**20))
        raise
