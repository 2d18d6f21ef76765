"""What a measurement must say of the machine it was taken on."""

import importlib.metadata
import platform

import torch

from volo.cli.doctor import processor_name


def machine(*packages: str) -> dict:
    """CPU, threads, and the versions of Python, torch and ``packages``."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", *packages)}
    return {
        "cpu": processor_name(),
        "threads": torch.get_num_threads(),
        **versions,
        "python": platform.python_version(),
    }
