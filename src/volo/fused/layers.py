"""Layers for inference only: weights in oneDNN's layout, and the operation that follows a layer fused into it.

Where oneDNN's operators are not available (another device or dtype, a PyTorch built without them) or not wanted
(``torch.compile`` cannot see through them), the same layers run PyTorch's ordinary operators.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The slope of a leaky ReLU that stands for ReLU: oneDNN's ReLU turns NaN into 0, which would hide that an image or a
#: weight is not a number. The results differ by less than the rounding of any sum of ordinary size.
_NEARLY_ZERO = 1e-30


def can_prepack(weight: Tensor) -> bool:
    """Return whether oneDNN's operators can run with weights like this one.

    They need float32 weights on the CPU, and a PyTorch that was built with them.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    operators = torch.ops.mkldnn
    return all(
        hasattr(operators, name) for name in ("_reorder_linear_weight", "_linear_pointwise", "_convolution_pointwise")
    )


class InferenceLinear(nn.Module):
    """A linear layer fused with exact GELU or with the addition of a residual: (..., inputs) to (..., outputs).

    Args:
        weight: (outputs, inputs).
        bias: (outputs,) or None.
        gelu: apply exact GELU to the result.
        pack: convert the weight to oneDNN's layout; see :func:`can_prepack`.
    """

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False, pack: bool) -> None:
        super().__init__()
        self.gelu, self.pack = gelu, pack
        weight = weight.detach().contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if pack else nn.Buffer(weight.clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if not self.pack:
            x = F.linear(x, self.weight, self.bias)
            x = F.gelu(x) if self.gelu else x
            return x if residual is None else residual + x
        if residual is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, "gelu" if self.gelu else "none", [], "none" if self.gelu else ""
        )

    def __getstate__(self) -> dict[str, Any]:
        # A tensor in oneDNN's layout has no storage, so it can be neither copied nor pickled.
        return self.__dict__ | ({"weight": self.weight.to_dense()} if self.pack else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.pack:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)


class InferenceConv(nn.Module):
    """A convolution over channels-last maps, fused with the BatchNorm and the ReLU that follow it.

    Args:
        conv: the convolution, with or without bias; it is not changed.
        norm: the BatchNorm that follows it, with running mean and variance; None if there is none.
        relu: apply ReLU to the result.
        pack: use oneDNN's operator; see :func:`can_prepack`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, *, relu: bool = False, pack: bool) -> None:
        super().__init__()
        self.relu, self.pack = relu, pack
        self.stride, self.padding = list(conv.stride), [int(side) for side in conv.padding]
        weight = conv.weight.detach()
        bias = weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias.detach()
        if norm is not None:
            weight, bias = _fold(weight, bias, norm)
        self.register_buffer("weight", weight.clone(memory_format=torch.channels_last))
        self.register_buffer("bias", bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        if not self.pack:
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return F.relu(x) if self.relu else x
        # The weight stays in PyTorch's layout, which fits every image size: oneDNN's layout would depend on the size,
        # and converting the few weights of a stem at each call costs almost nothing.
        activation, slope = ("leaky_relu", [_NEARLY_ZERO]) if self.relu else ("none", [])
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, self.padding, self.stride, [1, 1], 1, activation, slope, ""
        )


def _fold(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold a BatchNorm into the convolution before it, and return the new weight and bias.

    The fold is computed in float64, because rounding in the weights' own precision would add to the error of every
    pixel.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs,).
        norm: the BatchNorm that follows the convolution.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    folded = weight.double() * gain.view(-1, 1, 1, 1)
    shift = (bias.double() - norm.running_mean.double()) * gain + norm.bias.double()
    return folded.detach().to(weight.dtype), shift.detach().to(bias.dtype)
