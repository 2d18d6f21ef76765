"""The candidates of a benchmark (every model in every runtime) and the files that their processes load."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from volo.bench.models import BuiltModel, ExportedFile, Model, TimmModel, find_model
from volo.bench.worker import Measurement
from volo.export.capture import capture
from volo.export.onnx import write_onnx
from volo.export.openvino import read_as_openvino, write_openvino
from volo.messages import nearest

#: runtime → the packages that it needs beside PyTorch. For the last two, models are exported first; exported files
#: are opened as they are.
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
        model: the model.
        runtime: one of :data:`BENCH_RUNTIMES`, or ``file``: the runtime that a ``.pt2`` file was written for.
        baseline: whether the user named the model as one to compare with (``--against``).
    """

    model: Model
    runtime: str
    baseline: bool

    @property
    def name(self) -> str:
        """Model and runtime, as printed in results."""
        return f"{self.model.name}, {self.runtime}"

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages beside PyTorch that build and run the candidate."""
        needed = BENCH_RUNTIMES.get(self.runtime, ())
        if isinstance(self.model, ExportedFile):
            return needed[-1:]
        return ("timm", *needed) if isinstance(self.model, TimmModel) else needed


def find_candidates(
    models: Sequence[str],
    baselines: Sequence[str],
    runtimes: Sequence[str],
    *,
    pixels: int | None = None,
    trust: bool = False,
) -> list[Candidate]:
    """Return every model in every runtime, the baselines last.

    Args:
        models: names, as :func:`volo.bench.models.find_model` accepts them.
        baselines: names of the models to compare with, likewise.
        runtimes: names from :data:`BENCH_RUNTIMES`; an exported file that none of them can open runs in its own
            runtime.
        pixels: height and width of the images; None takes the size that each model is made for.
        trust: whether exported ``.pt2`` files may run code that is in them.

    Raises:
        ValueError: A model or a runtime is unknown.
        ModuleNotFoundError: A package is not installed.
    """
    for runtime in runtimes:
        if runtime not in BENCH_RUNTIMES:
            raise ValueError(f"unknown runtime {runtime!r}{nearest(runtime, BENCH_RUNTIMES)}")
    candidates = []
    for name in dict.fromkeys([*models, *baselines]):
        model = find_model(name, pixels, trust=trust)
        candidates += [Candidate(model, runtime, name not in models) for runtime in model.runtimes(runtimes)]
    for package in dict.fromkeys(package for candidate in candidates for package in candidate.packages):
        import_module(package)  # a missing package is reported before the measuring starts
    return candidates


class Preparation:
    """Writes the files that the worker processes load, each file once.

    Args:
        folder: an existing, empty folder for these files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sources: dict[BuiltModel, tuple[str, str | None]] = {}
        self._graphs: dict[tuple[BuiltModel, int], Path] = {}

    def measurement(self, candidate: Candidate, *, batch: int, threads: int) -> Measurement:
        """Write the candidate's files and return the measurement that its worker process runs.

        Raises:
            ValueError: The exported file does not accept this batch size.
            Exception: Any error of building or exporting the model.
        """
        model, runtime = candidate.model, candidate.runtime
        shape: tuple[int, ...] = (batch, *model.size)
        dtype, weights, trust = "float32", None, False
        if isinstance(model, ExportedFile):
            source, trust = model.name, model.trust
            if batch > 1 and model.exported.one_by_one:
                raise ValueError("the file takes one image at a time; export it again with --dynamic batch")
            if model.exported.include_preprocessing:
                shape, dtype = (batch, *model.size[1:], model.size[0]), "uint8"
        elif runtime in ("onnxruntime", "openvino"):
            graph = self._graph(model, batch)
            source = str(graph if runtime == "onnxruntime" else self._openvino_file(graph))
        else:
            source, weights = self._source(model)
        return Measurement(
            runtime=runtime, source=source, weights=weights, shape=shape, dtype=dtype, threads=threads, trust=trust
        )

    def _source(self, model: BuiltModel) -> tuple[str, str | None]:
        if model not in self._sources:
            self._sources[model] = model.save(self._new_folder())
        return self._sources[model]

    def _graph(self, model: BuiltModel, batch: int) -> Path:
        """Return the model as an ONNX file with this fixed batch size."""
        key = (model, batch)
        if key not in self._graphs:
            path = self._new_folder() / "model.onnx"
            write_onnx(capture(model.graph(), torch.zeros(batch, *model.size), batches=False, sizes=False), path)
            self._graphs[key] = path
        return self._graphs[key]

    def _openvino_file(self, graph: Path) -> Path:
        """Return the same graph as an OpenVINO file."""
        path = graph.with_suffix(".xml")
        if not path.exists():
            write_openvino(read_as_openvino(graph), path)
        return path

    def _new_folder(self) -> Path:
        folder = self.folder / str(len(list(self.folder.iterdir())))
        folder.mkdir()
        return folder
