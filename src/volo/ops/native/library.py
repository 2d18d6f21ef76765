"""The compiled library of the native backend: loading it, and calling it.

Shape letters: B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from volo.ops.backend import Geometry

#: Supported dtypes → their codes in the C interface.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_NAMES = ("libvolo_outlook.so", "libvolo_outlook.dylib")
_PROCESS = os.getpid()
_Sizes = ctypes.c_int64 * 10


@dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
        path: the library file.
        instruction_sets: the instruction sets that were compiled in and run on this processor, the preferred one last.
        has_threads: whether PyTorch's OpenMP threads were found; without them the calling thread does all the work.
    """

    path: Path
    instruction_sets: tuple[str, ...]
    has_threads: bool
    _run: Callable[..., int]

    def forward(self, value: Tensor, logits: Tensor, geometry: Geometry, instruction_set: str | None = None) -> Tensor:
        """Return the mixed map (B,H,W,C).

        Args:
            value: (B,H,W,C), contiguous.
            logits: (B,h,w,N,K²,K²), contiguous.
            geometry: the parameters of the call.
            instruction_set: one of ``instruction_sets``; None takes the preferred one.
        """
        out = torch.empty_like(value)
        self._call(value, logits, None, out, None, geometry, instruction_set)
        return out

    def backward(
        self, grad: Tensor, value: Tensor, logits: Tensor, geometry: Geometry, instruction_set: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of value and logits.

        Args:
            grad: gradient of the output, (B,H,W,C), contiguous.
            value: (B,H,W,C), contiguous.
            logits: (B,h,w,N,K²,K²), contiguous.
            geometry: the parameters of the call.
            instruction_set: one of ``instruction_sets``; None takes the preferred one.
        """
        if not value.numel():
            return torch.zeros_like(value), torch.zeros_like(logits)
        grad_value, grad_logits = torch.empty_like(value), torch.empty_like(logits)
        self._call(value, logits, grad, grad_value, grad_logits, geometry, instruction_set)
        return grad_value, grad_logits

    def scratch_bytes(self, value: Tensor, logits: Tensor, geometry: Geometry, *, backward: bool) -> int:
        """Run one call and return the bytes of scratch memory that it used beside its inputs and outputs."""
        grad = value if backward else None
        outputs = torch.empty_like(value), torch.empty_like(logits)
        return self._call(value, logits, grad, *outputs, geometry, None)

    def _call(
        self,
        value: Tensor,
        logits: Tensor,
        grad: Tensor | None,
        sums: Tensor,
        grad_logits: Tensor | None,
        geometry: Geometry,
        instruction_set: str | None,
    ) -> int:
        if not sums.numel():
            return 0
        batch, height, width, channels = value.shape
        _, h, w, heads, _, _ = logits.shape
        layout = geometry.kernel_size, geometry.stride, geometry.padding
        result = self._run(
            value.data_ptr(),
            logits.data_ptr(),
            None if grad is None else grad.data_ptr(),
            sums.data_ptr(),
            None if grad_logits is None else grad_logits.data_ptr(),
            _Sizes(batch, height, width, h, w, heads, channels // heads, *layout),
            geometry.scale,
            DTYPES[value.dtype],
            # OpenMP's threads do not survive a fork: a child process that used them would wait forever.
            torch.get_num_threads() if os.getpid() == _PROCESS else 1,
            self.instruction_sets.index(instruction_set or self.instruction_sets[-1]),
        )
        if result < 0:
            raise MemoryError("outlook attention cannot allocate its scratch memory, the size of a few rows of the map")
        return result


@cache
def load() -> Library | str:
    """Return the library, or the reason why it cannot be loaded.

    It is searched in all folders of this package, because an editable install has two: one with the sources and one
    with the compiled files.
    """
    folders = sys.modules[__name__.rpartition(".")[0]].__path__  # importing the package here would be circular
    paths = [Path(folder) / name for folder in folders for name in _NAMES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return "the native library was not built; install a C++17 compiler (g++ or clang++), then install volo again"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"the native library cannot be loaded: {error}"
    library.volo_outlook_set.restype = ctypes.c_char_p
    library.volo_outlook_run.restype = ctypes.c_int64
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.volo_outlook_run.argtypes = [*[pointer] * 5, _Sizes, ctypes.c_double, size, size, ctypes.c_int]
    names = [library.volo_outlook_set(index) for index in range(3)]
    return Library(
        path=path,
        instruction_sets=tuple(name.decode() for name in names if name),
        has_threads=bool(library.volo_outlook_has_threads()),
        _run=library.volo_outlook_run,
    )
