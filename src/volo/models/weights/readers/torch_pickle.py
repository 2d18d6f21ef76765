"""Reading of files of ``torch.save`` without running code in them.

PyTorch's restricted unpickler builds tensors, plain containers and the harmless objects listed here; any other object
is an error. The sizes that a file claims are compared with the size of the file before memory is allocated.
"""

import argparse
import mmap
import pathlib
import pickle
import re
import threading
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

#: Words of the sentences in which PyTorch advises to load a file without restriction.
_ADVICE = (
    "weights_only|only if you|trust|[Ww]eights only load failed|file an issue|torch.serialization|recommended steps"
)

#: Held while the harmless objects are allowed: PyTorch keeps that list for the whole process.
_ALLOWING = threading.Lock()


def read_pickled(path: Path) -> Any:
    """Read a file of ``torch.save``, which may hold harmless objects beside tensors.

    Raises:
        OSError: The file cannot be opened.
        ValueError: See :func:`read_tensors`.
    """
    with _ALLOWING, torch.serialization.safe_globals(_HARMLESS):
        return read_tensors(path)


def read_tensors(path: Path) -> Any:
    """Read tensors, and plain containers of them, from a file of ``torch.save``.

    The file may be in the new format (a zip archive, memory-mapped) or in the one before PyTorch 1.6.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is damaged, claims more data than it holds, or could run code. The message is one line
            without PyTorch's advice to load the file without restriction.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    try:
        is_zip = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # such as one part of an archive in several
        raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if is_zip:
        _check_archive(path)
    else:
        _check_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise ValueError(refusal(path, str(error))) from error
    except MemoryError as error:
        raise ValueError(f"{path} claims more memory than is available; it is damaged") from error
    except Exception as error:
        # The unpickler fails on a damaged pickle with any error: IndexError, KeyError, struct.error, RuntimeError …
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {_plain(str(error))}") from error


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
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError) as error:  # the last: it is encrypted
            raise ValueError(f"{path} is a damaged zip archive: {error}") from error
    if _UNBOUNDED in content:
        raise ValueError(refusal(path, "GLOBAL builtins.bytearray"))


def _check_pickle(path: Path) -> None:
    """Check that a pickle of the old format does not call ``bytearray``."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_UNBOUNDED) >= 0:
            raise ValueError(refusal(path, "GLOBAL builtins.bytearray"))


def refusal(path: Path, message: str) -> str:
    """Return the error message for a message of PyTorch's restricted unpickler, without its advice.

    Args:
        path: the file, as the message names it.
        message: of ``pickle.UnpicklingError``.
    """
    found = re.search(r"GLOBAL ([\w.]+)", message) or re.search(r"(?:function|class|type) ([\w.]+)", message)
    if found:
        return (
            f"{path} holds {found[1]}, which could run code: nothing was loaded; ask its author for safetensors, "
            "or for a file of the state dict alone"
        )
    return f"{path} is not a readable pickle: {_plain(message)}"


def _plain(message: str) -> str:
    """Return a message of PyTorch in one line, without its advice to load with ``weights_only=False``."""
    sentences = [sentence.strip() for sentence in re.split(r"\n|(?<=[.!])\s+|Check the documentation", message)]
    kept = " ".join(sentence for sentence in sentences if sentence and not re.search(_ADVICE, sentence))
    return kept[:200] or "PyTorch cannot read it without running code"
