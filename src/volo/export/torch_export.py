"""Export to PyTorch's archives: ``torch.export``, and machine code by AOTInductor. Both load without volo."""

import io
import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from volo.files import out_of_space, system_error
from volo.messages import reason_of
from volo.runtime.export_info import KEY


def write_torch_export(program: ExportedProgram, path: Path, description: str) -> None:
    """Write a ``.pt2`` archive for ``torch.export.load``, with the description as an extra file.

    Args:
        program: from :func:`volo.export.capture.capture`.
        path: the file to write.
        description: JSON to store in the archive.
    """
    for node in program.graph_module.graph.nodes:
        # What remains is the shape of the value. The rest tells where the code is on the machine that writes the file.
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    archive = io.BytesIO()  # PyTorch's writer ends the process if the disk is full
    torch.export.save(program, archive, extra_files={KEY: description})
    path.write_bytes(archive.getbuffer())


def write_aotinductor(program: ExportedProgram, path: Path, description: str) -> None:
    """Compile a program for this machine's processor and write a ``.pt2`` package.

    ``torch._inductor.aoti_load_package`` loads the package.

    Args:
        program: from :func:`volo.export.capture.capture`.
        path: the file to write.
        description: JSON to store in the package's metadata.

    Raises:
        RuntimeError: The C++ compiler is missing or fails.
    """
    from torch._inductor import aoti_compile_and_package

    settings, package = {"aot_inductor.metadata": {KEY: description}}, io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
            aoti_compile_and_package(program, package_path=package, inductor_configs=settings)
    except Exception as error:  # errors of the compiler and of the system
        if (cause := system_error(error)) and out_of_space(cause):
            raise
        raise RuntimeError(
            f"AOTInductor could not compile the model: {reason_of(error)}; it needs a C++ compiler"
        ) from error
    path.write_bytes(package.getbuffer())
