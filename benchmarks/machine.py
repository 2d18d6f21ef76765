"""What a measurement must say of the machine it was taken on."""

import importlib.metadata
import platform
from pathlib import Path

import torch


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(*packages: str) -> dict:
    """CPU, threads, and the versions of Python, torch and ``packages``."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", *packages)}
    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), **versions, "python": platform.python_version()}
