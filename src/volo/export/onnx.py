"""Export to ONNX with PyTorch's exporter."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from volo.logs import silenced
from volo.runtime.export_info import KEY

#: Version of the operator set: the first one with Gelu, and the last one that TensorRT 10 supports.
OPSET = 20


def write_onnx(program: ExportedProgram, path: Path, description: str | None = None) -> None:
    """Write a program as one ONNX file, checked by ``onnx.checker``.

    PyTorch's notes on the origin of every operator are removed; they include paths of source files.

    Args:
        program: from :func:`volo.export.capture.capture`. Its input is images: (B, C, H, W) float or (B, H, W, C)
            uint8.
        path: the file to write.
        description: JSON to store in ``metadata_props``.

    Raises:
        RuntimeError: ``onnx.checker`` rejects the graph.
    """
    import onnx

    # The exporter prints and logs its steps.
    with silenced("torch.onnx", "onnxscript", "onnx_ir"), contextlib.redirect_stdout(io.StringIO()):
        exported = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, verbose=False)
    assert exported is not None
    model = exported.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    _name(model.graph)
    _name_axes(model.graph)
    if description is not None:
        onnx.helper.set_model_props(model, {KEY: description})
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise RuntimeError(f"onnx.checker rejects the graph: {str(error).splitlines()[0]}") from error
    path.write_bytes(model.SerializeToString())


def operators(path: Path) -> frozenset[str]:
    """Return the types of operators in an ONNX file, with their domain unless it is the standard one."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return frozenset(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)


def _name(graph: Any) -> None:
    """Rename the input to ``images`` and the outputs to ``scores`` and ``tokens``."""
    names = {graph.input[0].name: "images"}
    names |= dict(zip((output.name for output in graph.output), ("scores", "tokens"), strict=False))
    for part in (*graph.input, *graph.output):
        part.name = names[part.name]
    for node in graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)


def _name_axes(graph: Any) -> None:
    """Name the dimensions of the input that vary ``batch``, ``height`` and ``width``.

    The exporter calls them s34 or 32*s30, for example. Dimensions that it derives from these, such as 4*s34, are
    renamed, too.
    """
    from onnx import TensorProto

    tensor = graph.input[0].type.tensor_type
    last = tensor.elem_type == TensorProto.UINT8
    axes = ("batch", "height", "width", "channels") if last else ("batch", "channels", "height", "width")
    whole: dict[str, str] = {}
    symbols: dict[str, str] = {}
    for axis, dimension in zip(axes, tensor.shape.dim, strict=True):
        if found := re.fullmatch(r"(?:(\d+)\*)?(\w+)", dimension.dim_param):
            whole[dimension.dim_param] = axis
            symbols[found[2]] = f"({axis}/{found[1]})" if found[1] else axis
    for part in (*graph.input, *graph.output, *graph.value_info):
        for dimension in part.type.tensor_type.shape.dim:
            if text := dimension.dim_param:
                derived = re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), text)
                dimension.dim_param = whole.get(text, derived)
