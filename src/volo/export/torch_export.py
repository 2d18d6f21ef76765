"""Export to PyTorch's archives: ``torch.export``, and machine code by AOTInductor. Both load without volo."""

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from volo.runtime.export_info import KEY


def write_torch_export(program: ExportedProgram, path: Path, description: str) -> None:
    """Write a ``.pt2`` archive for ``torch.export.load``, with the description as an extra file.

    Args:
        program: from :func:`volo.export.capture.capture`.
        path: the file to write.
        description: JSON to store in the archive.
    """
    with path.open("wb") as file:  # given a path, torch.export.save insists on its suffix
        torch.export.save(program, file, extra_files={KEY: description})


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

    settings = {"aot_inductor.metadata": {KEY: description}}
    try:
        with path.open("wb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
            aoti_compile_and_package(program, package_path=file, inductor_configs=settings)
    except Exception as error:  # errors of the compiler and of the system
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RuntimeError(f"AOTInductor could not compile the model: {reason}; it needs a C++ compiler") from error
