"""Operators on tensors: outlook attention and its backends. Imports only PyTorch."""

from volo.ops.outlook import BACKENDS, outlook_attention

__all__ = ["BACKENDS", "outlook_attention"]
