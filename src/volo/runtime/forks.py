"""Processes that are forked after a model was loaded.

OpenMP's threads, with which PyTorch computes, do not survive a fork: a forked process that uses them waits forever.
With one thread, PyTorch does not use them.
"""

import os
import warnings
from functools import cache

import torch

_forked = False


@cache
def watch_forks() -> None:
    """Remember in all processes that are forked from now on that they are forked; call it when a model is loaded."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_remember)


def _remember() -> None:
    global _forked
    _forked = True


def is_forked() -> bool:
    """Return whether this process was forked after a model was loaded."""
    return _forked


def limit_threads_if_forked() -> None:
    """Let PyTorch compute with one thread if this process was forked after a model was loaded, and warn of it."""
    if _forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warnings.warn(
            "this process was forked after a model was loaded, so PyTorch computes with one thread in it; for more, "
            "load the model in every process, not before the fork",
            RuntimeWarning,
            stacklevel=2,
        )
