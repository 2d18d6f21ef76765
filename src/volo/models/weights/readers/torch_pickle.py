"""Reading of files of ``torch.save`` without running code in them.

PyTorch's restricted unpickler builds tensors, plain containers and the harmless objects listed here; any other object
is an error. The sizes that a file claims are compared with the size of the file before memory is allocated.
"""

import argparse
import mmap
import pathlib
import pickle
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

#: The numeric dtypes of numpy, as its pickles name them.
_NUMBERS = ("f2", "f4", "f8", "i4", "i8", "b1")


def _dtype(kind: str, *options: bool) -> np.dtype:
    """Build a numeric ``dtype`` of numpy; other dtypes are an error, because a few bytes can name one of any size."""
    if kind not in _NUMBERS:
        raise ValueError(f"it holds numpy's {kind[:20]!r}, which is not a number")
    return np.dtype(kind, *options)


#: Objects that training programs store beside weights: settings, paths, scores. Building one runs no code of the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    SimpleNamespace,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    # A path of another operating system cannot be built here; a pure path, which is never opened, replaces it.
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
    (_dtype, "numpy.dtype"),
    *(type(np.dtype(kind)) for kind in _NUMBERS),
]

#: The only function that the unpickler allows and that can allocate any amount of memory for a few bytes of the file.
_UNBOUNDED = b"\nbytearray\n"


def read_pickled(path: Path) -> Any:
    """Read a file of ``torch.save`` in the new format (a zip archive, memory-mapped) or the format before PyTorch 1.6.

    Raises:
        ValueError: The file is damaged, claims more data than it holds, or could run code.
    """
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_archive(path)
    else:
        _check_pickle(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, str(error))) from error
    except MemoryError as error:
        raise ValueError(f"{path} claims more memory than is available; it is damaged") from error
    except Exception as error:
        # The unpickler fails on a damaged pickle with any error: IndexError, KeyError, struct.error, RuntimeError …
        problem = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {problem}") from error


def _check_archive(path: Path) -> None:
    """Check that an archive is one of PyTorch's, and that its content is not larger than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise ValueError(f"{path} is a zip archive, but not one that torch.save wrote")
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if packed or claimed > size:
        claim = f"{packed[0]} in it is compressed" if packed else f"it claims {claimed:,} bytes and has {size:,}"
        raise ValueError(
            f"{path} was not written by torch.save: {claim}, which could fill the memory; nothing was read"
        )
    pickled = next(entry for entry in entries if entry.filename.endswith("/data.pkl"))
    with zipfile.ZipFile(path) as archive:
        try:
            content = archive.read(pickled)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if _UNBOUNDED in content:
        raise ValueError(_refusal(path, "GLOBAL builtins.bytearray"))


def _check_pickle(path: Path) -> None:
    """Check that a pickle of the old format does not call ``bytearray``."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_UNBOUNDED) >= 0:
            raise ValueError(_refusal(path, "GLOBAL builtins.bytearray"))


def _refusal(path: Path, message: str) -> str:
    """Return the error message for a message of the unpickler."""
    found = re.search(r"GLOBAL ([\w.]+)", message) or re.search(r"(?:function|class|type) ([\w.]+)", message)
    if found:
        return (
            f"{path} holds {found[1]}, which could run code: nothing was loaded; ask its author for safetensors, "
            "or for a file of the state dict alone"
        )
    problem = message.split("\n")[-1].strip() if "re-running" in message.lower() else message.splitlines()[0]
    return f"{path} is not a readable pickle: {problem[:200]}"
