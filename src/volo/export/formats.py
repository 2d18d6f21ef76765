"""What a model can be exported to."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from volo.messages import nearest

DYNAMIC = ("none", "batch", "size", "both")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: what people call it.
        ending: of the file's name.
        runtime: the one of :mod:`volo.runtime.runtimes` that runs it.
        precisions: those that it can have.
        needs: packages that write and run it, beside PyTorch; nncf for int8 alone.
    """

    name: str
    ending: str
    runtime: str
    precisions: tuple[str, ...]
    needs: tuple[str, ...] = ()


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", ".onnx", "onnxruntime", PRECISIONS, ("onnx", "onnxscript", "onnxruntime")),
        Format("openvino", ".xml", "openvino", PRECISIONS, ("onnx", "onnxscript", "openvino", "nncf")),
        Format("torch-export", ".pt2", "torch-export", ("fp32", "fp16")),
        Format("aotinductor", ".pt2", "aotinductor", ("fp32", "fp16")),
    )
}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What somebody wants of an export; see :func:`volo.export.pipeline.export_model`.

    Raises:
        ValueError: there is no such thing, or these things do not go together.
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
        for what, value, allowed in (
            ("format", self.to, tuple(FORMATS)),
            ("kind of dynamic shape", self.dynamic, DYNAMIC),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"there is no {what} {value!r}{nearest(value, allowed)}")
        if self.precision not in self.format.precisions:
            able = [form.name for form in FORMATS.values() if self.precision in form.precisions]
            raise ValueError(f"{self.to} has no {self.precision} here; {' and '.join(able)} have")
        if self.to == "aotinductor" and self.sizes:
            raise ValueError("AOTInductor compiles for one size of images here; take --dynamic none or batch")
        if self.include_resize and self.sizes:
            raise ValueError("resizing inside brings photos of any size to one; take --dynamic none or batch")
        if self.include_resize and self.precision == "int8":
            raise ValueError("int8 is fitted to images that are resized already; leave out --include-resize")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")

    @property
    def format(self) -> Format:
        """The kind of file."""
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
        """See that what writes and runs the file is there, before the work and not after it.

        Raises:
            ModuleNotFoundError: it is not.
        """
        needed = [name for name in self.format.needs if name != "nncf" or self.precision == "int8"]
        for name in needed:
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def check_output(self, output: Path) -> None:
        """See that a file's name has the format's ending.

        Raises:
            ValueError: it has another.
        """
        if output.suffix != self.format.ending:
            raise ValueError(f"a file of {self.to} must end in {self.format.ending}, not {output.name!r}")
