"""Outlook attention: the public function, the checks of its arguments, and the choice of a backend."""

from torch import Tensor

from volo.ops.backend import Backend, Geometry
from volo.ops.native import NATIVE
from volo.ops.reference import REFERENCE
from volo.ops.slices import SLICES

#: In order of preference: the first backend that can run the inputs is chosen.
BACKENDS: tuple[Backend, ...] = (NATIVE, SLICES, REFERENCE)


def outlook_attention(
    value: Tensor,
    logits: Tensor,
    *,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
    dropout_p: float = 0.0,
    backend: str | None = None,
) -> Tensor:
    """Mix every K×K window of ``value`` with weights predicted at its center, and add up the overlaps.

    Each strided position (y, x) has a window of K² value vectors whose top left corner is
    (y·stride - padding, x·stride - padding); outside the map the vectors are zero. For each head n, position i of
    the window becomes Σ_j softmax_j(scale · logits[y, x, n, i, j]) · window[j]. The output at a position of the map
    is the sum over all windows that contain it.

    Args:
        value: (B, H, W, C) channels-last, floating point; C is a multiple of the number of heads N.
        logits: (B, h, w, N, K², K²), with dtype and device of ``value``, before scaling;
            h = floor((H + 2·padding - K) / stride) + 1, and w likewise.
        kernel_size: K, the side of the window.
        stride: distance between neighboring windows.
        padding: number of zero rows and columns on each side of the map.
        scale: multiplies the logits before the softmax; usually head_dim ** -0.5.
        dropout_p: probability of dropping an attention weight; pass 0 outside training.
        backend: the name of one of ``volo.ops.BACKENDS``; None takes the first that can run the inputs.

    Returns:
        (B, H, W, C), with dtype and device of ``value``; under ``torch.autocast``, with the dtype of a matmul.

    Raises:
        ValueError: Shapes, dtypes or devices disagree, an argument is out of range, or the backend is unknown.
        RuntimeError: The named backend cannot run these inputs; the message gives the reason.

    Source: VOLO, arXiv:2106.13112, section 3.1.
    """
    geometry = Geometry(kernel_size=kernel_size, stride=stride, padding=padding, scale=scale, dropout_p=dropout_p)
    _check(value, logits, geometry)
    return _choose(backend, value, logits, geometry).run(value, logits, geometry)


def _check(value: Tensor, logits: Tensor, geometry: Geometry) -> None:
    if geometry.kernel_size < 1 or geometry.stride < 1 or geometry.padding < 0:
        raise ValueError(
            "outlook_attention needs kernel_size >= 1, stride >= 1 and padding >= 0, "
            f"not {geometry.kernel_size}, {geometry.stride} and {geometry.padding}"
        )
    if not 0.0 <= geometry.dropout_p < 1.0:
        raise ValueError(f"dropout_p must lie in [0, 1), not {geometry.dropout_p}")
    if value.ndim != 4 or logits.ndim != 6:
        raise ValueError(
            "outlook_attention needs value (B, H, W, C) and logits (B, h, w, N, K², K²), "
            f"not {tuple(value.shape)} and {tuple(logits.shape)}"
        )
    if value.dtype != logits.dtype or not value.is_floating_point():
        raise ValueError(f"value and logits must share one floating dtype, not {value.dtype} and {logits.dtype}")
    if value.device != logits.device:
        raise ValueError(f"value and logits must be on one device, not {value.device} and {logits.device}")
    batch, height, width, channels = value.shape
    heads = logits.shape[3]
    if heads < 1 or channels % heads:
        raise ValueError(f"the {channels} channels of value must be a multiple of the {heads} heads of logits")
    expected = (batch, geometry.strided(height), geometry.strided(width), heads, geometry.window, geometry.window)
    if expected[1] < 1 or expected[2] < 1:
        raise ValueError(f"no window of {geometry.kernel_size} fits a map of {height}x{width}; pad it more")
    if tuple(logits.shape) != expected:
        raise ValueError(f"logits must be {expected} for value {tuple(value.shape)}, not {tuple(logits.shape)}")


def _choose(name: str | None, value: Tensor, logits: Tensor, geometry: Geometry) -> Backend:
    if name is None:
        return next(backend for backend in BACKENDS if backend.refuse(value, logits, geometry) is None)
    named = {backend.name: backend for backend in BACKENDS}
    if name not in named:
        raise ValueError(f"unknown outlook attention backend {name!r}; available: {', '.join(named)}")
    reason = named[name].refuse(value, logits, geometry)
    if reason is not None:
        raise RuntimeError(f"the outlook attention backend {name!r} cannot run here: {reason}")
    return named[name]
