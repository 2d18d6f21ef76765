"""Tracing of a module with ``torch.export``; every format is written from the traced program."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from volo.messages import reason_of


def capture(module: nn.Module, images: Tensor, *, batches: bool, sizes: bool, multiple: int = 1) -> ExportedProgram:
    """Trace a module on a batch of images.

    Args:
        module: any module that maps a batch of images to logits.
        images: an example, (B, C, H, W) or (B, H, W, C) uint8. Sides that may vary must differ from each other, and B
            must be above 1 if it may vary.
        batches: whether the number of images may vary.
        sizes: whether height and width may vary.
        multiple: a varying height and width must be multiples of this number of pixels.

    Raises:
        ValueError: The model cannot be traced in this way.
    """
    top = 1 if images.dtype == torch.uint8 else 2
    dynamic: dict[int, Any] = {0: Dim.DYNAMIC} if batches else {}
    if sizes and multiple == 1:
        dynamic |= {top: Dim.DYNAMIC, top + 1: Dim.DYNAMIC}
    elif sizes:
        dynamic |= {top: multiple * Dim("rows", min=1), top + 1: multiple * Dim("columns", min=1)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # PyTorch's tracer itself uses deprecated parts of PyTorch.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
            return torch.export.export(module.eval(), (images,), dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:  # the tracer raises many types
        kind = "with a varying size" if sizes else f"at {images.shape[top]}x{images.shape[top + 1]} pixels"
        raise ValueError(f"the model cannot be exported {kind}: {reason_of(error)}") from error
