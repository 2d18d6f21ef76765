"""Facts about this machine that belong to every measurement."""

import importlib.metadata
import platform
from pathlib import Path

#: Instruction sets that decide the speed of matrix products, by Linux's names.
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")


def machine(*packages: str) -> dict[str, str]:
    """Return the processor, its instruction sets, and the versions of Python and of ``packages``, by name."""
    facts = {"cpu": processor_name(), "instructions": " ".join(_instructions()), "python": platform.python_version()}
    return facts | {name: importlib.metadata.version(name) for name in packages}


def processor_name() -> str:
    """Return the processor's model name; outside Linux, a coarser name from Python's ``platform`` module."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return [name for name in _INSTRUCTIONS if name in flags.split()]


def _cpuinfo(key: str) -> str:
    """Return the value of ``key`` for the first processor in /proc/cpuinfo, or "" where it is missing."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
