"""One class for each runtime, all called alike.

``runtime(batch)`` takes the model's input, (B, C, H, W) float32 or, if preprocessing is in the graph, (B, H, W, C)
uint8, and returns the first output as float32 on the CPU; ``runtime.run(batch)`` returns all outputs.
"""

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.logs import silenced
from volo.messages import nearest, reason_of
from volo.runtime.export_info import ENDINGS, KEY
from volo.runtime.forks import is_forked
from volo.runtime.program import Program, UnsafeArchiveError
from volo.runtime.sessions import onnx_session, openvino_request

#: What to do about a file that could run code of its author.
_CONSENT = "If you trust the source of the file, allow it to run code: --trust (in Python, trust=True)"


class Runtime(ABC):
    """A model that is loaded and ready to run.

    Attributes:
        name: name of the runtime, one of ``RUNTIMES``.
        description: the file's description, JSON of :class:`volo.runtime.export_info.ExportInfo`; None if it has none.
    """

    name: str
    description: str | None = None

    @abstractmethod
    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return all outputs of a batch, on the CPU."""

    def __call__(self, batch: Tensor) -> Tensor:
        return self.run(batch)[0].float()


class _Torch(Runtime):
    """Base of the runtimes that compute with PyTorch; the number of threads is set during each call only.

    PyTorch's number of threads belongs to the whole process.
    """

    call: Callable[[Tensor], Any]

    def __init__(self, threads: int | None) -> None:
        self.threads = threads

    @torch.inference_mode()
    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        with torch_threads(self.threads):
            outputs = self.call(batch)
        return tuple(output.cpu() for output in (outputs if isinstance(outputs, list | tuple) else [outputs]))


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Temporarily set PyTorch's number of threads; None keeps it, and so does a forked process, which has one."""
    before = torch.get_num_threads()
    if count is None or count == before or is_forked():
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PyTorchRuntime(_Torch):
    """A module in evaluation mode, either eager or compiled with ``torch.compile``."""

    name = "pytorch"

    def __init__(self, module: nn.Module, *, threads: int | None = None, compile: bool = False) -> None:
        super().__init__(threads)
        self.name = "compile" if compile else "pytorch"
        self.call = torch.compile(module, dynamic=False) if compile else module


class TorchExportRuntime(_Torch):
    """A ``.pt2`` archive of ``torch.export.save``.

    Without ``trust``, :class:`volo.runtime.program.Program` runs it, which accepts the operators of exported models
    only. With it, PyTorch's own loader does, which accepts all archives, and runs code that is in them.
    """

    name = "torch-export"

    def __init__(self, path: str | Path, *, threads: int | None = None, trust: bool = False) -> None:
        super().__init__(threads)
        if trust:
            extra = {KEY: ""}
            with silenced("torch.export", "torch._export"):
                self.call = torch.export.load(path, extra_files=extra).module()
            self.description = extra[KEY] or None
            return
        try:
            # Read at once, so that nobody can exchange the file between its checks and its use.
            self.call = program = Program(Path(path).read_bytes(), extra=KEY)
        except UnsafeArchiveError as error:
            raise ValueError(f"{error}. {_CONSENT}") from error
        self.description = program.extra


class AOTInductorRuntime(_Torch):
    """A ``.pt2`` package of AOTInductor: machine code, which runs only with ``trust``."""

    name = "aotinductor"

    def __init__(self, path: str | Path, *, threads: int | None = None, trust: bool = False) -> None:
        if not trust:
            raise ValueError(f"it contains machine code, which could do anything. {_CONSENT}")
        super().__init__(threads)
        with silenced("torch.utils.cpp_extension"):  # it warns where there is no CUDA
            from torch._inductor import aoti_load_package

            self.call = aoti_load_package(str(path))
        self.description = self.call.get_metadata().get(KEY)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        return super().run(batch.contiguous())  # the package is compiled for contiguous input only


class OnnxRuntime(Runtime):
    """An ONNX file in ONNX Runtime, on the CPU."""

    name = "onnxruntime"

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.session = onnx_session(path, threads=threads)
        self._input = self.session.get_inputs()[0].name
        self.description = self.session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, self.session.run(None, {self._input: batch.numpy(force=True)})))


class OpenVINORuntime(Runtime):
    """An OpenVINO model (``.xml``), or an ONNX file, in OpenVINO, on the CPU."""

    name = "openvino"

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        import openvino

        model = openvino.Core().read_model(path)
        for held in ([KEY], ["framework", KEY]):  # of OpenVINO's own files, and of ONNX files
            if model.has_rt_info(held):
                self.description = model.get_rt_info(held).astype(str)
        self.request = openvino_request(model, threads=threads)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        outputs = self.request.infer([batch.numpy(force=True)], share_inputs=True)
        return tuple(torch.from_numpy(output.copy()) for output in outputs.values())


#: name → the class that runs such files.
FILE_RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINORuntime,
    "torch-export": TorchExportRuntime,
    "aotinductor": AOTInductorRuntime,
}
#: All names; the first two run PyTorch modules.
RUNTIMES = ("pytorch", "compile", *FILE_RUNTIMES)


def open_runtime(
    path: str | Path, *, runtime: str | None = None, threads: int | None = None, trust: bool = False
) -> Runtime:
    """Load an exported file into a runtime.

    Args:
        path: a file with one of the suffixes ``ENDINGS``.
        runtime: one of ``FILE_RUNTIMES``; None takes the runtime that the file is made for.
        threads: number of CPU threads; None leaves the choice to the runtime.
        trust: whether a ``.pt2`` file may run code that is in it. Files of other formats contain none.

    Raises:
        ValueError: The file or the runtime does not exist, the runtime cannot load the file, or the file could run code
            and is not trusted.
        ModuleNotFoundError: The runtime's package is not installed.
    """
    path = Path(path)
    check_running(runtime, threads)
    allowed = _runtimes_for(path)
    if runtime is not None and runtime not in allowed:
        raise ValueError(f"{path} runs in {' or '.join(allowed)}, not in {runtime}")
    try:
        consent = {"trust": trust} if path.suffix == ".pt2" else {}
        return FILE_RUNTIMES[runtime or allowed[0]](path, threads=threads, **consent)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each runtime raises its own types
        raise ValueError(f"{path} cannot be loaded by {runtime or allowed[0]}: {reason_of(error)}") from error


def check_running(runtime: str | None, threads: int | None) -> None:
    """Check the name of a runtime and a number of threads.

    Raises:
        ValueError: The runtime is unknown, or the number is below 1.
    """
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(f"unknown runtime {runtime!r}{nearest(runtime, RUNTIMES)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")


def _runtimes_for(path: Path) -> tuple[str, ...]:
    """Return the runtimes that can open this file, first the one that it is made for."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path} is not an exported model; exported files end in {', '.join(ENDINGS)}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix != ".pt2":
        return ("onnxruntime", "openvino") if path.suffix == ".onnx" else ("openvino",)
    try:
        with zipfile.ZipFile(path) as archive:
            compiled = any("/aotinductor/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a PyTorch archive: {error}") from error
    return ("aotinductor",) if compiled else ("torch-export",)
