"""What a measurement must say of the machine it was taken on."""

import importlib.metadata
import platform
from pathlib import Path

#: Instructions that decide how fast matrices are multiplied, as Linux calls them.
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")


def machine(*packages: str) -> dict[str, str]:
    """The processor, its instruction sets, and the versions of Python and ``packages``, by name."""
    facts = {"cpu": processor_name(), "instructions": " ".join(_instructions()), "python": platform.python_version()}
    return facts | {name: importlib.metadata.version(name) for name in packages}


def processor_name() -> str:
    """What the processor calls itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    known = _cpuinfo("flags") or _cpuinfo("Features")
    return [name for name in _INSTRUCTIONS if name in known.split()]


def _cpuinfo(key: str) -> str:
    """A line of the first processor's, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
