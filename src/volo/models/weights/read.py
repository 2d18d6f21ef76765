"""Reading of weights from any file, as plain tensors under VOLO's names.

A file may be safetensors, a file of ``torch.save`` in its new or old format, or Keras' HDF5. It may hold the tensors
alone or among other entries, may hold averaged weights as well, and may have the prefixes of a wrapper in its names.
:class:`Checkpoint` records which of its weights were chosen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from volo.messages import join_few
from volo.models.weights.readers.torch_pickle import read_pickled

#: The tensor that every VOLO has; the text before this name is the prefix of a wrapper.
ANCHOR = "patch_embed.proj.weight"

#: Entries in which training programs store the weights, and their average over the training steps.
#: timm, the authors: state_dict, state_dict_ema; torchvision: model, model_ema; Lightning: see :func:`_weight_entries`.
_TRAINED = ("state_dict", "model", "model_state_dict")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")

#: Parts of names that torch.compile, FSDP and activation checkpointing insert, at any depth.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

#: First bytes of files that are not weights → the kind of file, for the error message.
_OTHER_FILES = {
    b"version https://git-lfs": "a Git LFS pointer instead of the weights: run git lfs pull",
    b"<": "a web page or XML instead of the download",
    b"{": "JSON",
    b"\x1f\x8b": "a gzip archive: unpack it first",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of one model, and the place in the file where they were found.

    Attributes:
        origin: the file or the object, as messages name it.
        form: the file format.
        weights: name → tensor; memory-mapped and private to this process if the file format allows it.
        averaged: True for the average over the training steps, False for the last weights; None if the file does not
            have both.
        part: the entry of the file that holds the weights, or "".
        prefix: the prefix that was removed from every name, or "".
        beside: the other entries of the file.
        about: the numbers and texts that the file stores beside the weights.
    """

    origin: str
    form: str
    weights: dict[str, Tensor]
    averaged: bool | None = None
    part: str = ""
    prefix: str = ""
    beside: tuple[str, ...] = ()
    about: dict[str, Any]

    @property
    def choice(self) -> str | None:
        """A phrase that states which of two sets of weights was loaded; None if the file has one set."""
        if self.averaged is None:
            return None
        loaded, other = ("averaged", "last") if self.averaged else ("last", "averaged")
        return f"the {loaded} weights ({self.part}) were loaded; ema={not self.averaged} loads the {other} ones"


def read_checkpoint(path: str | Path, *, ema: bool | None = None) -> Checkpoint:
    """Read a file of weights.

    Args:
        path: the file; its content gives the format, not its suffix.
        ema: True loads the weights averaged over the training steps, False the last weights; None loads the averaged
            weights if the file has them.

    Raises:
        ValueError: The file cannot be read, is damaged, could run code, holds no tensors, or does not have the weights
            that ``ema`` selects.
    """
    path = Path(path)
    form = _form(path)
    if form == "safetensors":
        tensors, about = _read_safetensors(path)
        return _checkpoint(str(path), form, tensors, ema, about)
    if form == "HDF5 of Keras":
        from volo.models.weights.readers.keras import read_keras

        return _checkpoint(str(path), form, read_keras(path), ema, {})
    return _checkpoint(str(path), form, read_pickled(path), ema, {})


def from_object(weights: nn.Module | Mapping[str, Any], *, ema: bool | None = None) -> Checkpoint:
    """Take the weights of a module, such as timm's VOLO, or of a state dict; the tensors are copied.

    Raises:
        ValueError: The object holds no tensors, or does not have the weights that ``ema`` selects.
    """
    if isinstance(weights, nn.Module):
        checkpoint = _checkpoint(f"the given {type(weights).__name__}", "module", weights.state_dict(), ema, {})
    else:
        checkpoint = _checkpoint("the given state dict", "state dict", weights, ema, {})
    return replace(checkpoint, weights={name: tensor.clone() for name, tensor in checkpoint.weights.items()})


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Return which tensors hold values that are not finite in float32, as a phrase, or None if there are none."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor.float())]
    return f"values that are not finite in {join_few(bad)} ({len(bad)} of {len(weights)} tensors)" if bad else None


def _is_finite(values: Tensor) -> bool:
    # A finite sum proves that all values are finite, and is much faster than a look at each value. The sum of values
    # that are large but finite may overflow, so it proves nothing if it is not finite.
    return bool(values.sum().isfinite() or values.isfinite().all())


def check_finite_weights(origin: str, weights: Mapping[str, Tensor]) -> None:
    """Check that all weights are finite numbers in float32.

    Args:
        origin: the name of the weights in the message.
        weights: name → tensor.

    Raises:
        ValueError: A value is NaN, infinite, or too large for float32.
    """
    if problem := not_finite(weights):
        raise ValueError(f"the weights of {origin} have {problem}; download or train them again")


def check_weights_file(path: Path) -> None:
    """Check that a path is a readable file that is not empty.

    Raises:
        ValueError: The path is anything else; the message states the reason.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder without weights; give a file, or a folder with model.safetensors")
        stat = path.stat()
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not stat.st_size:
        raise ValueError(f"{path} is empty")


def _form(path: Path) -> str:
    """Return the file format, which the first bytes of the file give."""
    check_weights_file(path)
    with path.open("rb") as file:
        start = file.read(32)
    known = next((kind for sign, kind in _OTHER_FILES.items() if start.startswith(sign)), None)
    # Users expect of a file named .safetensors that it is never unpickled, so its content does not matter here.
    if start[8:9] == b"{" or (path.suffix == ".safetensors" and known is None):
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "zip archive of torch.save"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5 of Keras"
    if start[:1] == b"\x80":
        return "pickle of torch.save before PyTorch 1.6"
    raise ValueError(f"{path} is not a file of weights: it is {known or 'of an unknown format'}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a valid safetensors file: {error}") from error


def _checkpoint(origin: str, form: str, content: Any, ema: bool | None, about: dict[str, Any]) -> Checkpoint:
    """Choose the tensors of one model from the content of a file.

    Args:
        origin: the name of the file in messages.
        form: the file format.
        content: the content of the file: tensors by their names, or entries that hold such a mapping.
        ema: see :func:`read_checkpoint`.
        about: texts that the file format stores beside the content.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{origin} holds a {type(content).__name__} instead of weights")
    entries = _weight_entries(origin, content)
    if ema is not None and ema not in entries and (ema or True in entries):
        raise ValueError(f"{origin} has {'no' if ema else 'only'} averaged weights; leave ema out")
    averaged = bool(ema if ema is not None else True in entries) if entries else False
    part, tensors = entries.get(averaged, ("", content))
    weights, prefix = _renamed(origin, {name: value for name, value in tensors.items() if isinstance(value, Tensor)})
    if not weights:
        raise ValueError(f"{origin} holds no tensors; it has: {', '.join(map(str, list(content)[:8])) or 'nothing'}")
    addresses = set()
    for name, value in weights.items():
        check_plain(origin, name, value)
        if value.data_ptr() in addresses:  # parameters that their model shares; a VOLO has them separately
            weights[name] = value.clone()
        addresses.add(value.data_ptr())
    return Checkpoint(
        origin=origin,
        form=form,
        weights=weights,
        averaged=averaged if len(entries) == 2 else None,
        part=part,
        prefix=prefix,
        beside=tuple(str(name) for name in content if name != part) if part else (),
        about={**about, **{str(k): v for k, v in content.items() if isinstance(v, int | float | str) and part}},
    )


def _weight_entries(origin: str, content: Mapping[str, Any]) -> dict[bool, tuple[str, Mapping[str, Any]]]:
    """Return averaged (True or False) → (name of the entry, its tensors); empty if the file has no such entries."""
    entries: dict[bool, tuple[str, Mapping[str, Any]]] = {}
    for averaged, names in ((False, _TRAINED), (True, _AVERAGED)):
        for name in names:
            value = content.get(name)
            value = value.state_dict() if isinstance(value, nn.Module) else value
            if not _has_tensors(value):
                continue
            if averaged in entries:
                raise ValueError(
                    f"{origin} has weights in {entries[averaged][0]} and in {name}; save one of them alone"
                )
            entries[averaged] = name, value
    # Lightning's weight averaging stores the average as state_dict, and the last weights as current_model_state.
    if False in entries and _has_tensors(content.get("current_model_state")):
        entries = {True: entries[False], False: ("current_model_state", content["current_model_state"])}
    return entries


def _has_tensors(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def check_plain(origin: str, name: str, tensor: Tensor) -> None:
    """Check that a tensor of a file is dense, and that each of its values is stored.

    Args:
        origin: the file, for the message.
        name: the tensor, for the message.
        tensor: the tensor.

    Raises:
        ValueError: It is sparse, quantized or nested, or claims more values than the file stores.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        raise ValueError(f"{origin}: {name} is not a plain tensor ({tensor.dtype}, {tensor.layout}, {tensor.device})")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError(f"{origin}: {name} claims {tensor.nbytes:,} bytes, more than the file stores of it")


def _renamed(origin: str, tensors: Mapping[Any, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors under VOLO's names, and the prefix that was removed from every name."""
    names = {name: _unwrapped(name) for name in tensors if name != "n_averaged"}
    prefix = _prefix(origin, dict.fromkeys(names.values()))
    weights: dict[str, Tensor] = {}
    for name, unwrapped in names.items():
        ours = unwrapped.removeprefix(prefix)
        if ours in weights:
            raise ValueError(f"{origin} has {ours} twice, once under a wrapper's name; save one of them")
        weights[ours] = tensors[name].detach()
    return weights, prefix


def _unwrapped(name: Any) -> str:
    for wrapper in _WRAPPERS:
        name = str(name).replace(wrapper, "")
    return name


def _prefix(origin: str, names: Iterable[str]) -> str:
    """Find the prefix of a wrapper (``module.``, ``model.``, ``timm_model.`` …), or return ""."""
    found = [name.removesuffix(ANCHOR) for name in names if name.endswith(ANCHOR)]
    if len(found) > 1:
        raise ValueError(f"{origin} holds {len(found)} models, {', '.join(map(repr, found))}; save one of them alone")
    return found[0] if found and (not found[0] or found[0].endswith(".")) else ""
