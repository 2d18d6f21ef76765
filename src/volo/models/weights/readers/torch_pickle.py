"""Reading what ``torch.save`` wrote, without running anything that is in it.

PyTorch's restricted unpickler builds tensors, plain containers and the harmless objects listed here; whatever else a
file names stops the reading. What a file claims about its size is compared with its size before memory is taken.
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

#: numpy's kinds of numbers, as its pickles name them.
_NUMBERS = ("f2", "f4", "f8", "i4", "i8", "b1")


def _dtype(kind: str, *options: bool) -> np.dtype:
    """A ``dtype`` of numpy's for numbers alone: a few bytes can name another one of any size."""
    if kind not in _NUMBERS:
        raise ValueError(f"it holds numpy's {kind[:20]!r}, no number")
    return np.dtype(kind, *options)


#: What trainers store beside weights: settings, paths, scores. Making one runs no code of the file's.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    SimpleNamespace,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    # On this system, a file's path may be of another system's kind: read as a path that is never opened.
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
    (_dtype, "numpy.dtype"),
    *(type(np.dtype(kind)) for kind in _NUMBERS),
]

#: The one function that the unpickler allows and that takes any amount of memory for a few bytes of file.
_UNBOUNDED = b"\nbytearray\n"


def read_pickled(path: Path) -> Any:
    """The content of a file of ``torch.save``, in today's form (a zip archive, memory-mapped) or that before 1.6.

    Raises:
        ValueError: the file is damaged, claims more than it holds, or would have to run code to be read.
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
        raise ValueError(f"{path} claims more memory than there is; it is damaged") from error
    except Exception as error:
        # A damaged pickle can make the unpickler fail in any way: IndexError, KeyError, struct.error, RuntimeError …
        problem = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {problem}") from error


def _check_archive(path: Path) -> None:
    """See that an archive is one of PyTorch's and unpacks to no more than it is long."""
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
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_UNBOUNDED) >= 0:
            raise ValueError(_refusal(path, "GLOBAL builtins.bytearray"))


def _refusal(path: Path, message: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", message) or re.search(r"(?:function|class|type) ([\w.]+)", message)
    if named:
        return (
            f"{path} holds {named[1]}, which could run code: nothing was loaded; ask for the file as safetensors, "
            "or for its state dict alone"
        )
    problem = message.split("\n")[-1].strip() if "re-running" in message.lower() else message.splitlines()[0]
    return f"{path} is no readable pickle: {problem[:200]}"
