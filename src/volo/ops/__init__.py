"""Tensors in, tensors out: outlook attention and its backends. Imports torch alone."""

from volo.ops.outlook import BACKENDS, outlook_attention

__all__ = ["BACKENDS", "outlook_attention"]
