"""Weights from any file, as plain tensors under VOLO's names.

A file may be safetensors, of ``torch.save`` in either form, or Keras' HDF5; it may hold the tensors at once or beside
much else, once or also averaged, and under the names of a wrapper. What was chosen is told, never guessed in silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from volo.models.weights.readers.torch_pickle import read_pickled

#: The tensor by which a VOLO is found, whatever stands before its name.
ANCHOR = "patch_embed.proj.weight"

#: Where trainers put the weights, and where the average over the steps.
#: timm, the authors: state_dict, state_dict_ema; torchvision: model, model_ema; Lightning: see :func:`_parts`.
_TRAINED = ("state_dict", "model", "model_state_dict")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")

#: What compiling, sharding and checkpointing put into names, at any depth.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

#: What the beginning of a file that is no weights file gives away.
_STRANGERS = {
    b"version https://git-lfs": "a pointer of Git LFS in the place of the weights: run git lfs pull",
    b"<": "a web page or XML, not what was to be downloaded",
    b"{": "JSON",
    b"\x1f\x8b": "a gzip archive: unpack it first",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of one model, and how they were found.

    Attributes:
        origin: the file, or what else they came from, as messages name it.
        form: how the file is written.
        weights: name → tensor; memory-mapped and private to this process where the file allows it.
        averaged: whether these are the average over the training steps; None where the file has one set alone.
        part: the entry of the file that holds them, or "".
        prefix: what stood before VOLO's names, or "".
        beside: the other entries of the file.
        about: what the file says about them in words and numbers.
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
        """One line about which of two sets of weights this is; None where there was no choice."""
        if self.averaged is None:
            return None
        taken, left = ("averaged", "last") if self.averaged else ("last", "averaged")
        return f"the {taken} weights ({self.part}) were taken; ema={not self.averaged} takes the {left} ones"


def read_checkpoint(path: str | Path, *, ema: bool | None = None) -> Checkpoint:
    """Read a file of weights.

    Args:
        path: the file, whatever its name ends in.
        ema: take the weights that were averaged over the training steps (True) or not (False); None takes them
            where the file has them.

    Raises:
        ValueError: the file cannot be read, is damaged, would have to run code, holds no tensors, or not the set
            that ``ema`` asks for.
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
    """The same of a model object (timm's, for one) or of a state dict; the tensors are copied.

    Raises:
        ValueError: there are no tensors in it, or not those that ``ema`` asks for.
    """
    if isinstance(weights, nn.Module):
        given = _checkpoint(f"the {type(weights).__name__} given", "module", weights.state_dict(), ema, {})
    else:
        given = _checkpoint("the state dict given", "state dict", weights, ema, {})
    return replace(given, weights={name: tensor.clone() for name, tensor in given.weights.items()})


def check_weights_file(path: Path) -> None:
    """See that a path is a file with something in it.

    Raises:
        ValueError: it is not; the message says what it is.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder without weights; give a file, or a folder with model.safetensors")
        stat = path.stat()
        if not path.is_file():
            raise ValueError(f"{path} is no regular file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not stat.st_size:
        raise ValueError(f"{path} is empty")


def _form(path: Path) -> str:
    check_weights_file(path)
    with path.open("rb") as file:
        start = file.read(32)
    known = next((what for sign, what in _STRANGERS.items() if start.startswith(sign)), None)
    # A name that promises safetensors promises that nothing is unpickled.
    if start[8:9] == b"{" or (path.suffix == ".safetensors" and known is None):
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "zip archive of torch.save"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5 of Keras"
    if start[:1] == b"\x80":
        return "pickle of torch.save before PyTorch 1.6"
    raise ValueError(f"{path} is no file of weights: it is {known or 'of no known form'}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error


def _checkpoint(origin: str, form: str, content: Any, ema: bool | None, about: dict[str, Any]) -> Checkpoint:
    """Choose one model's tensors out of all that a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{origin} holds no weights but one {type(content).__name__}")
    parts = _parts(origin, content)
    if ema is not None and ema not in parts and (ema or True in parts):
        raise ValueError(f"{origin} has no {'averaged' if ema else 'other than averaged'} weights; leave ema out")
    average = bool(ema if ema is not None else True in parts) if parts else False
    part, tensors = parts.get(average, ("", content))
    weights, prefix = _renamed(origin, {name: value for name, value in tensors.items() if isinstance(value, Tensor)})
    if not weights:
        raise ValueError(f"{origin} holds no tensors; it has: {', '.join(map(str, list(content)[:8])) or 'nothing'}")
    places = set()
    for name, value in weights.items():
        _check_plain(origin, name, value)
        if value.data_ptr() in places:  # tied in their model, and parameters of their own in ours
            weights[name] = value.clone()
        places.add(value.data_ptr())
    return Checkpoint(
        origin=origin,
        form=form,
        weights=weights,
        averaged=average if len(parts) == 2 else None,
        part=part,
        prefix=prefix,
        beside=tuple(str(name) for name in content if name != part) if part else (),
        about={**about, **{str(k): v for k, v in content.items() if isinstance(v, int | float | str) and part}},
    )


def _parts(origin: str, content: Mapping[str, Any]) -> dict[bool, tuple[str, Mapping[str, Any]]]:
    """Averaged or not → (entry of the file, its tensors), of a file that has such entries."""
    parts: dict[bool, tuple[str, Mapping[str, Any]]] = {}
    for average, names in ((False, _TRAINED), (True, _AVERAGED)):
        for name in names:
            value = content.get(name)
            value = value.state_dict() if isinstance(value, nn.Module) else value
            if not _has_tensors(value):
                continue
            if average in parts:
                raise ValueError(f"{origin} has weights in {parts[average][0]} and in {name}; save one by itself")
            parts[average] = name, value
    if False in parts and _has_tensors(content.get("current_model_state")):  # Lightning with an average
        parts = {True: parts[False], False: ("current_model_state", content["current_model_state"])}
    return parts


def _has_tensors(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _check_plain(origin: str, name: str, tensor: Tensor) -> None:
    """See that a tensor has all its values in memory or in the file, one by one."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        raise ValueError(f"{origin}: {name} is no plain tensor ({tensor.dtype}, {tensor.layout}, {tensor.device})")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError(f"{origin}: {name} claims {tensor.nbytes:,} bytes, more than are stored of it")


def _renamed(origin: str, tensors: Mapping[Any, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors under VOLO's names, and what a wrapper has put before all of them."""
    names = {name: _unwrapped(name) for name in tensors if name != "n_averaged"}
    prefix = _prefix(origin, dict.fromkeys(names.values()))
    weights: dict[str, Tensor] = {}
    for name, unwrapped in names.items():
        ours = unwrapped.removeprefix(prefix)
        if ours in weights:
            raise ValueError(f"{origin} has {ours} twice, under a wrapper's name too; save one of them")
        weights[ours] = tensors[name].detach()
    return weights, prefix


def _unwrapped(name: Any) -> str:
    for wrapper in _WRAPPERS:
        name = str(name).replace(wrapper, "")
    return name


def _prefix(origin: str, names: Iterable[str]) -> str:
    """What a wrapper (``module.``, ``_orig_mod.``, ``model.``, ``timm_model.`` …) has put before every name."""
    found = [name.removesuffix(ANCHOR) for name in names if name.endswith(ANCHOR)]
    if len(found) > 1:
        raise ValueError(f"{origin} holds {len(found)} models, {', '.join(map(repr, found))}; save one by itself")
    return found[0] if found and (not found[0] or found[0].endswith(".")) else ""
