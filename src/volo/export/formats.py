"""The export formats and the options of an export."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from volo.messages import nearest
from volo.precision import EXPORT_PRECISIONS, canonical_precision
from volo.runtime.export_info import DYNAMIC


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: the value of ``--to``.
        ending: suffix of the file's name.
        runtime: name of the runtime in :mod:`volo.runtime.runtimes` that runs the file.
        precisions: the supported precisions.
        needs: packages beside PyTorch that write and run the file; nncf is needed for int8 only.
    """

    name: str
    ending: str
    runtime: str
    precisions: tuple[str, ...]
    needs: tuple[str, ...] = ()


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", ".onnx", "onnxruntime", ("fp32", "fp16", "int8"), ("onnx", "onnxscript", "onnxruntime")),
        Format("openvino", ".xml", "openvino", ("fp32", "fp16", "int8"), ("onnx", "onnxscript", "openvino", "nncf")),
        Format("torch-export", ".pt2", "torch-export", ("fp32", "bf16", "fp16")),
        Format("aotinductor", ".pt2", "aotinductor", ("fp32", "bf16", "fp16")),
    )
}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of :func:`volo.export.pipeline.export_model`.

    Raises:
        ValueError: An option has an unknown value, or options do not go together.
    """

    to: str
    size: tuple[int, int] | None = None
    dynamic: str = "batch"
    precision: str = "fp32"
    include_preprocessing: bool = False
    include_resize: bool = False
    include_softmax: bool = False
    include_tokens: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", canonical_precision(self.precision, EXPORT_PRECISIONS))
        for option, value, allowed in (
            ("format", self.to, tuple(FORMATS)),
            ("kind of dynamic shape", self.dynamic, DYNAMIC),
        ):
            if value not in allowed:
                raise ValueError(f"unknown {option} {value!r}{nearest(value, allowed)}")
        if self.precision not in self.format.precisions:
            able = [form.name for form in FORMATS.values() if self.precision in form.precisions]
            raise ValueError(f"{self.to} does not support {self.precision}; {' and '.join(able)} do")
        if self.to == "aotinductor" and self.sizes:
            raise ValueError("aotinductor supports only one image size: use --dynamic none or batch")
        if self.include_resize and self.sizes:
            raise ValueError("--include-resize resizes all photos to one size: use --dynamic none or batch")
        if self.include_resize and self.precision == "int8":
            raise ValueError("int8 is calibrated on images that are already resized: omit --include-resize")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")

    @property
    def format(self) -> Format:
        """The file format."""
        return FORMATS[self.to]

    @property
    def batches(self) -> bool:
        """Whether the number of images may vary."""
        return self.dynamic in ("batch", "both")

    @property
    def sizes(self) -> bool:
        """Whether the size of the images may vary."""
        return self.dynamic in ("size", "both")

    def check_installed(self) -> None:
        """Check that the packages that write and run the file are installed.

        Raises:
            ModuleNotFoundError: A package is not installed.
        """
        needed = [name for name in self.format.needs if name != "nncf" or self.precision == "int8"]
        for name in needed:
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def check_output(self, output: Path) -> None:
        """Check that a file's name has the suffix of the format.

        Raises:
            ValueError: It has another suffix.
        """
        if output.suffix != self.format.ending:
            raise ValueError(f"the name of a file for {self.to} must end in {self.format.ending}, not {output.name!r}")
