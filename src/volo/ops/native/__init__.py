"""Outlook attention on the CPU in one pass over the map, forward and backward: no im2col, no fold.

A small compiled library (built from the ``*.cpp`` files in this folder) does the work. Its two operators are
registered with PyTorch, for autograd, ``torch.compile``, ``torch.export`` and ``vmap``. The forward pass saves only
value and logits; the backward pass computes the softmax again.

Shape letters: B batch, H W map, h w strided map, N heads, C channels, K window.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor

from volo.ops.backend import Backend, Geometry
from volo.ops.native import library


@torch.library.custom_op("volo::outlook_attention", mutates_args=(), device_types="cpu")
def _forward(value: Tensor, logits: Tensor, kernel_size: int, stride: int, padding: int, scale: float) -> Tensor:
    geometry = _geometry(kernel_size, stride, padding, scale)
    return _library().forward(value.contiguous(), logits.contiguous(), geometry)


@torch.library.custom_op("volo::outlook_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor, value: Tensor, logits: Tensor, kernel_size: int, stride: int, padding: int, scale: float
) -> tuple[Tensor, Tensor]:
    geometry = _geometry(kernel_size, stride, padding, scale)
    return _library().backward(grad.contiguous(), value.contiguous(), logits.contiguous(), geometry)


@_forward.register_fake
def _(value: Tensor, logits: Tensor, *layout: Any) -> Tensor:
    return value.new_empty(value.shape)


@_backward.register_fake
def _(grad: Tensor, value: Tensor, logits: Tensor, *layout: Any) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), logits.new_empty(logits.shape)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    value, logits, *ctx.layout = inputs
    ctx.save_for_backward(value, logits)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_backward(grad, *ctx.saved_tensors, *ctx.layout), None, None, None, None)


def _no_second_derivative(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError(
        "the native backend of outlook attention has no second derivative; "
        "pass backend='slices' to outlook_attention, which has one"
    )


_forward.register_autograd(_differentiate, setup_context=_save)
_backward.register_autograd(_no_second_derivative)


def _vmap(op: Any, tensors: int) -> Any:
    """Return a vmap rule that merges the mapped dimension into the batch.

    Args:
        op: the operator.
        tensors: the number of its leading tensor arguments.
    """

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
        inputs = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(args[:tensors], in_dims[:tensors], strict=True)
        ]
        results = op(*(tensor.flatten(0, 1) for tensor in inputs), *args[tensors:])
        unflatten = lambda tensor: tensor.unflatten(0, inputs[0].shape[:2])  # noqa: E731
        if isinstance(results, Tensor):
            return unflatten(results), 0
        return tuple(map(unflatten, results)), (0,) * len(results)

    return rule


if hasattr(_forward, "register_vmap"):  # since PyTorch 2.5
    _forward.register_vmap(_vmap(_forward, 2))
    _backward.register_vmap(_vmap(_backward, 3))


def _geometry(kernel_size: int, stride: int, padding: int, scale: float) -> Geometry:
    return Geometry(kernel_size=kernel_size, stride=stride, padding=padding, scale=scale, dropout_p=0.0)


def _library() -> library.Library:
    loaded = library.load()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    return loaded


@torch.compiler.assume_constant_result
def unavailable() -> str | None:
    """Return the reason why the native library cannot run in this process, or None if it can."""
    loaded = library.load()
    return loaded if isinstance(loaded, str) else None


def _differentiated_by_function() -> bool:
    """Return whether the call is inside torch.func.grad, vjp or jvp; vmap alone is allowed."""
    functorch = torch._C._functorch
    stack = functorch.get_interpreter_stack() or []
    return any(level.key() != functorch.TransformType.Vmap for level in stack)


def _refuse(value: Tensor, logits: Tensor, geometry: Geometry) -> str | None:
    if value.device.type != "cpu":
        return f"it runs on the CPU only, and the tensors are on {value.device.type}"
    if geometry.dropout_p:
        return f"it does not support attention dropout, and dropout_p is {geometry.dropout_p}"
    if value.dtype not in library.DTYPES:
        return f"it supports {', '.join(map(str, library.DTYPES))}, not {value.dtype}"
    if not torch.compiler.is_compiling() and _differentiated_by_function():
        return "grad, vjp and jvp of torch.func cannot differentiate custom operators; call backward instead"
    return unavailable()


def _run(value: Tensor, logits: Tensor, geometry: Geometry) -> Tensor:
    layout = geometry.kernel_size, geometry.stride, geometry.padding
    out = _forward(value, logits, *layout, geometry.scale)
    # The other backends end in a matmul. Autocast casts its result, except float64; this backend does the same.
    if torch.is_autocast_enabled("cpu") and out.dtype != torch.float64:
        out = out.to(torch.get_autocast_dtype("cpu"))
    return out


NATIVE = Backend(name="native", refuse=_refuse, run=_run)
