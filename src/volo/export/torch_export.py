"""PyTorch's own archives: ``torch.export``, and AOTInductor's machine code. Both load without volo."""

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from volo.runtime.export_info import KEY


def write_torch_export(program: ExportedProgram, path: Path, description: str) -> None:
    """Write a ``.pt2`` archive for ``torch.export.load``, the description as an extra file."""
    with path.open("wb") as file:  # by a path it insists on the ending
        torch.export.save(program, file, extra_files={KEY: description})


def write_aotinductor(program: ExportedProgram, path: Path, description: str) -> None:
    """Compile for this machine's processor and write a ``.pt2`` package for ``torch._inductor.aoti_load_package``.

    Raises:
        RuntimeError: there is no C++ compiler, or it fails.
    """
    from torch._inductor import aoti_compile_and_package

    settings = {"aot_inductor.metadata": {KEY: description}}
    try:
        with path.open("wb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
            aoti_compile_and_package(program, package_path=file, inductor_configs=settings)
    except Exception as error:  # of the compiler, of the system
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RuntimeError(f"AOTInductor could not compile the model: {reason}; it needs a C++ compiler") from error
