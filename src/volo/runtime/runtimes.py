"""Running a model: one class for each way, all called alike.

``runtime(batch)`` takes what the model takes, (B, C, H, W) float32 or, where preprocessing is in the graph,
(B, H, W, C) uint8, and gives its first output as float32 on the CPU; ``runtime.run(batch)`` gives all outputs.
"""

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.messages import nearest
from volo.runtime.export_info import ENDINGS, KEY
from volo.runtime.sessions import onnx_session, openvino_request


class Runtime(ABC):
    """A model that is ready to run.

    Attributes:
        name: of the runtime, a key of ``RUNTIMES``.
        description: JSON of :class:`volo.runtime.export_info.ExportInfo`, where the file holds one.
    """

    name: str
    description: str | None = None

    @abstractmethod
    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """All outputs of a batch, on the CPU."""

    def __call__(self, batch: Tensor) -> Tensor:
        return self.run(batch)[0].float()


class _Torch(Runtime):
    """What computes with PyTorch's threads; their number is set for the call alone, as it is one of the process."""

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
    """PyTorch computes with so many threads; None changes nothing."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PyTorchRuntime(_Torch):
    """Any module in evaluation mode, as it is or through ``torch.compile``."""

    name = "pytorch"

    def __init__(self, module: nn.Module, *, threads: int | None = None, compile: bool = False) -> None:
        super().__init__(threads)
        self.name = "compile" if compile else "pytorch"
        self.call = torch.compile(module, dynamic=False) if compile else module


class TorchExportRuntime(_Torch):
    """A ``.pt2`` archive of ``torch.export.save``."""

    name = "torch-export"

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        super().__init__(threads)
        extra = {KEY: ""}
        self.call = torch.export.load(path, extra_files=extra).module()
        self.description = extra[KEY] or None


class AOTInductorRuntime(_Torch):
    """A ``.pt2`` package of AOTInductor. It holds machine code, which runs when it is loaded: load no stranger's."""

    name = "aotinductor"

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        from torch._inductor import aoti_load_package

        super().__init__(threads)
        self.call = aoti_load_package(str(path))
        self.description = self.call.get_metadata().get(KEY)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        return super().run(batch.contiguous())  # compiled for this layout alone


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
        for held in ([KEY], ["framework", KEY]):  # where OpenVINO keeps what it finds in an ONNX file
            if model.has_rt_info(held):
                self.description = model.get_rt_info(held).astype(str)
        self.request = openvino_request(model, threads=threads)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        outputs = self.request.infer([batch.numpy(force=True)], share_inputs=True)
        return tuple(torch.from_numpy(output.copy()) for output in outputs.values())


#: name → what runs a file of that kind.
FILE_RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINORuntime,
    "torch-export": TorchExportRuntime,
    "aotinductor": AOTInductorRuntime,
}
#: All names: the first two run modules.
RUNTIMES = ("pytorch", "compile", *FILE_RUNTIMES)


def open_runtime(path: str | Path, *, runtime: str | None = None, threads: int | None = None) -> Runtime:
    """Load an exported file to run it.

    Args:
        path: a file of one of ``ENDINGS``.
        runtime: one of ``FILE_RUNTIMES``; None takes the one that the file is for.
        threads: to compute with; None leaves it to the runtime.

    Raises:
        ValueError: there is no such file or runtime, the runtime does not take such files, or cannot read this one.
    """
    path = Path(path)
    check_running(runtime, threads)
    allowed = _runtimes_of(path)
    if runtime is not None and runtime not in allowed:
        raise ValueError(f"{path} runs in {' or '.join(allowed)}, not in {runtime}")
    try:
        return FILE_RUNTIMES[runtime or allowed[0]](path, threads=threads)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of as many kinds as there are runtimes
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{path} cannot be loaded by {runtime or allowed[0]}: {reason.strip()}") from error


def check_running(runtime: str | None, threads: int | None) -> None:
    """See that there is such a runtime, and such a number of threads. Raises ValueError."""
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(f"there is no runtime {runtime!r}{nearest(runtime, RUNTIMES)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")


def _runtimes_of(path: Path) -> tuple[str, ...]:
    """Those that take this file, the one it is for first."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path} is no exported model; these end in {', '.join(ENDINGS)}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix != ".pt2":
        return ("onnxruntime", "openvino") if path.suffix == ".onnx" else ("openvino",)
    try:
        with zipfile.ZipFile(path) as archive:
            compiled = any("/aotinductor/" in name for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no archive of PyTorch's: {error}") from error
    return ("aotinductor",) if compiled else ("torch-export",)
