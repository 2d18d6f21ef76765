"""Who takes part: every model in every runtime, and what their processes are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from volo.bench.models import ExportedFile, Model, Ours, TimmModel, find_model
from volo.bench.worker import Measurement
from volo.export.capture import capture
from volo.export.onnx import write_onnx
from volo.export.openvino import read_as_openvino, write_openvino
from volo.messages import nearest

#: runtime → the packages it needs beside PyTorch. Models are exported for the last two, files are just opened.
BENCH_RUNTIMES: dict[str, tuple[str, ...]] = {
    "pytorch": (),
    "compile": (),
    "onnxruntime": ("onnxscript", "onnxruntime"),
    "openvino": ("onnxscript", "openvino"),
}


@dataclass(frozen=True)
class Candidate:
    """One model in one runtime.

    Attributes:
        model: which.
        runtime: of :data:`BENCH_RUNTIMES`, or ``file``, the one that a ``.pt2`` file is for.
        peer: whether it was named as one to compare with.
    """

    model: Model
    runtime: str
    peer: bool

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.model.name}, {self.runtime}"

    @property
    def packages(self) -> tuple[str, ...]:
        """What it is made and run with beside PyTorch."""
        needed = BENCH_RUNTIMES.get(self.runtime, ())
        if isinstance(self.model, ExportedFile):
            return needed[-1:]
        return ("timm", *needed) if isinstance(self.model, TimmModel) else needed


def find_candidates(
    models: Sequence[str], peers: Sequence[str], runtimes: Sequence[str], *, pixels: int | None = None
) -> list[Candidate]:
    """Every model in every runtime, those of ``peers`` last.

    Args:
        models: names as :func:`volo.bench.models.find_model` takes them.
        peers: likewise, to compare with.
        runtimes: of :data:`BENCH_RUNTIMES`; an exported file that none of them takes runs in its own.
        pixels: side of the images; None: what each model is made for.

    Raises:
        ValueError: a model or a runtime is unknown. ModuleNotFoundError: a package is not installed.
    """
    for runtime in runtimes:
        if runtime not in BENCH_RUNTIMES:
            raise ValueError(f"unknown runtime {runtime!r}{nearest(runtime, BENCH_RUNTIMES)}")
    found = []
    for name in dict.fromkeys([*models, *peers]):
        model = find_model(name, pixels)
        found += [Candidate(model, runtime, name not in models) for runtime in model.runtimes(runtimes)]
    for package in dict.fromkeys(package for each in found for package in each.packages):
        import_module(package)  # what is missing shows before the work
    return found


class Preparation:
    """Makes the files that the processes are given, each once, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sources: dict[Model, tuple[str, str | None]] = {}
        self._graphs: dict[tuple[Model, int], Path] = {}

    def job(self, contestant: Candidate, *, batch: int, threads: int) -> Measurement:
        """What a worker is to do; raises whatever building and exporting a model may raise."""
        model, runtime = contestant.model, contestant.runtime
        shape: tuple[int, ...] = (batch, *model.size)
        dtype, weights = "float32", None
        if isinstance(model, ExportedFile):
            source = model.name
            if batch > 1 and model.exported.one_by_one:
                raise ValueError("it takes one image at a time; export it with --dynamic batch")
            if model.exported.include_preprocessing:
                shape, dtype = (batch, *model.size[1:], model.size[0]), "uint8"
        elif runtime in ("onnxruntime", "openvino"):
            graph = self._graph(model, batch)
            source = str(graph if runtime == "onnxruntime" else self._intermediate(graph))
        else:
            source, weights = self._source(model)
        return Measurement(runtime=runtime, source=source, weights=weights, shape=shape, dtype=dtype, threads=threads)

    def _source(self, model: Ours | TimmModel) -> tuple[str, str | None]:
        if model not in self._sources:
            self._sources[model] = model.save(self._room())
        return self._sources[model]

    def _graph(self, model: Ours | TimmModel, batch: int) -> Path:
        """The model as ONNX, for batches of this size alone."""
        key = (model, batch)
        if key not in self._graphs:
            path = self._room() / "model.onnx"
            write_onnx(capture(model.graph(), torch.zeros(batch, *model.size), batches=False, sizes=False), path)
            self._graphs[key] = path
        return self._graphs[key]

    def _intermediate(self, graph: Path) -> Path:
        """The same graph in OpenVINO's own format."""
        path = graph.with_suffix(".xml")
        if not path.exists():
            write_openvino(read_as_openvino(graph), path)
        return path

    def _room(self) -> Path:
        room = self.folder / str(len(list(self.folder.iterdir())))
        room.mkdir()
        return room
