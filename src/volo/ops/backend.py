"""Types that all implementations of outlook attention share: ``Backend`` and ``Geometry``."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The checked parameters of one call of :func:`volo.ops.outlook_attention`; K is ``kernel_size``."""

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
        """Return the number of windows along a side of ``size`` positions."""
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One implementation of outlook attention.

    Attributes:
        name: the name by which a caller selects the backend.
        refuse: maps (value, logits, geometry) to None if the backend can run these inputs, else to the reason.
        run: maps (value, logits, geometry), which are checked before, to the mixed map.
    """

    name: str
    refuse: Callable[[Tensor, Tensor, Geometry], str | None]
    run: Callable[[Tensor, Tensor, Geometry], Tensor]
