"""What every implementation of outlook attention shares: its record, and the geometry of a call."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The sizes of one call, taken from checked inputs.

    B batch, H W map, h w strided map, N heads, D head dim, C = N·D, K window.
    """

    kernel_size: int
    stride: int
    padding: int
    scale: float
    dropout_p: float

    @property
    def window(self) -> int:
        """K², the number of positions in one window."""
        return self.kernel_size**2

    def strided(self, size: int) -> int:
        """The number of windows along a side of ``size`` positions."""
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One implementation of outlook attention.

    Attributes:
        name: what a caller asks for.
        refuse: gives None where the backend can run these inputs, else the reason why not.
        run: (value, logits, geometry) to the mixed map; inputs are checked before.
    """

    name: str
    refuse: Callable[[Tensor, Tensor, Geometry], str | None]
    run: Callable[[Tensor, Tensor, Geometry], Tensor]
