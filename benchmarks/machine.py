"""What a script's measurement must say of the machine it was taken on."""

import torch

from volo.bench import machine as package


def machine(*packages: str) -> dict:
    """Return the processor, PyTorch's threads, and the versions of Python, torch and ``packages``."""
    return {**package.machine("torch", *packages), "threads": torch.get_num_threads()}
