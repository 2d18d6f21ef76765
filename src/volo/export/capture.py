"""A module as a program of ``torch.export``: what every format is made from."""

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram


def capture(module: nn.Module, images: Tensor, *, batches: bool, sizes: bool) -> ExportedProgram:
    """Trace a module on a batch of images.

    Args:
        module: maps one batch of images to logits; any module will do.
        images: (B, C, H, W), or (B, H, W, C) uint8. Of what may vary, no two of its sides may be equal, and the batch
            must be more than one image.
        batches: the number of images may vary.
        sizes: height and width may vary.

    Raises:
        ValueError: the model cannot be traced so.
    """
    top = 1 if images.dtype == torch.uint8 else 2
    dynamic = {0: Dim.DYNAMIC} if batches else {}
    dynamic |= {top: Dim.DYNAMIC, top + 1: Dim.DYNAMIC} if sizes else {}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Of PyTorch's own making: its tracer reads what it has deprecated.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
            return torch.export.export(module.eval(), (images,), dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:  # of many kinds
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        what = "with a varying size" if sizes else f"at {images.shape[top]}x{images.shape[top + 1]} pixels"
        raise ValueError(f"the model cannot be exported {what}: {reason}") from error
