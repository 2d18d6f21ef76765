"""``volo doctor``: what runs here, and what a report of an error should say."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence

import torch
from rich.table import Table

from volo import __version__
from volo.bench.machine import processor_name
from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console
from volo.ops import BACKENDS
from volo.ops.backend import Geometry
from volo.ops.native import library

#: What behavior may hang on; whatever else is installed is of no concern here.
PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "safetensors"),
    *("timm", "pytorch-lightning", "torchmetrics", "onnx", "onnxruntime", "openvino"),
)


def run(arguments: Sequence[str]) -> int:
    """Print a row for each fact."""
    parse(parser(), arguments)
    table = Table(show_header=False, title="volo doctor")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for section in (_operator(), _processor(), _devices(), _versions()):
        for name, fact in section:
            table.add_row(name, fact)
        table.add_section()
    Console().print(table)
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo doctor``, which has no options."""
    return VerbParser(
        prog="volo doctor", usage="", description="Report what runs on this machine and why, to be sent with an error."
    )


def _operator() -> Iterator[tuple[str, str]]:
    """Yield the backends of outlook attention for a float32 map on the CPU, and facts of the native library."""
    value, logits = torch.zeros(1, 2, 2, 1), torch.zeros(1, 1, 1, 1, 9, 9)
    geometry = Geometry(kernel_size=3, stride=2, padding=1, scale=1.0, dropout_p=0.0)
    reasons = {backend.name: backend.refuse(value, logits, geometry) for backend in BACKENDS}
    chosen = next(name for name, reason in reasons.items() if reason is None)
    for name, reason in reasons.items():
        fact = reason or ("runs: the one that is chosen" if name == chosen else "could run")
        yield f"operator: {name}", fact
    loaded = library.load()
    if isinstance(loaded, library.Library):
        yield "native library", str(loaded.path)
        yield "instruction sets", f"{', '.join(loaded.instruction_sets[:-1])}, used: {loaded.instruction_sets[-1]}"
        threads = "PyTorch's own" if loaded.has_threads else "PyTorch's were not found: one thread alone"
        yield "native threads", threads


def _processor() -> Iterator[tuple[str, str]]:
    yield "system", platform.platform()
    yield "processor", f"{processor_name()}, {os.cpu_count()} cores"
    yield "PyTorch's CPU code", torch.backends.cpu.get_cpu_capability()
    yield "threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')})"
    yield "oneDNN", "available" if torch.backends.mkldnn.is_available() else "not available: slower inference"


def _devices() -> Iterator[tuple[str, str]]:
    if not torch.accelerator.is_available():
        yield "accelerator", "none"
        return
    kind = str(torch.accelerator.current_accelerator())
    for index in range(torch.accelerator.device_count()):
        yield f"{kind}:{index}", torch.cuda.get_device_name(index) if kind == "cuda" else kind


def _versions() -> Iterator[tuple[str, str]]:
    yield "volo", __version__
    yield "Python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"
