"""Reading of the ``.h5`` weights of keras_cv_attention_models' VOLO. Needs the extra ``volo[h5]``.

Keras stores a matrix as (inputs, outputs), a convolution as (height, width, inputs, outputs), and the three groups of
transformer blocks as one group. The query, key and value of an attention are separate matrices, split by head.

Source: keras_cv_attention_models (https://github.com/leondgarse/keras_cv_attention_models), ``volo/volo.py``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volo.messages import join_few
from volo.models.config import VARIANTS

#: Name of a layer → name of an array → the array.
_Layers = dict[str, dict[str, np.ndarray]]


def read_keras(path: Path) -> dict[str, Tensor]:
    """Read the layers of a file, and return tensors with VOLO's names and layouts.

    Raises:
        ValueError: The file is damaged, or its layers are not those of a VOLO D1 to D5.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            size = path.stat().st_size
            layers = {name: _arrays(root[name], size) for name in root if isinstance(root[name], h5py.Group)}
    except Exception as error:  # h5py raises almost any type for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is a damaged HDF5 file: {reason}") from error
    layers = {name: arrays for name, arrays in layers.items() if arrays}
    try:
        pairs = dict(_convert(layers))
    except KeyError as error:
        raise ValueError(f"{path} is not a VOLO of keras_cv_attention_models: it has no {error.args[0]}") from error
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{path} is not a VOLO of keras_cv_attention_models: an array has another shape: {error}"
        ) from error
    if left := [f"{layer}/{name}" for layer, arrays in layers.items() for name in arrays]:
        raise ValueError(f"{path} is not a VOLO of keras_cv_attention_models: it has unexpected {join_few(left)}")
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in pairs.items()}


def _arrays(group: Any, size: int) -> dict[str, np.ndarray]:
    """Read the arrays of a layer, by their names without the layer's: ``kernel``, ``query/kernel``.

    Args:
        group: the layer.
        size: of the file, in bytes.

    Raises:
        ValueError: An array is larger than the file can hold, or holds no numbers.
    """
    found: dict[str, np.ndarray] = {}
    layer = group.name.rpartition("/")[2]

    def visit(name: str, item: Any) -> None:
        if not hasattr(item, "shape"):
            return
        if item.nbytes > 100 * size:  # a small file of compressed arrays could fill the memory
            raise ValueError(f"{name} claims {item.nbytes:,} bytes in a file of {size:,}; nothing was read")
        if not np.issubdtype(item.dtype, np.floating):
            raise ValueError(f"{name} holds {item.dtype}, not floating-point numbers")
        parts = [part.partition(":")[0] for part in name.split("/") if part != layer]
        found["/".join(parts)] = item[()]

    group.visititems(visit)
    return found


def _convert(layers: _Layers) -> Iterator[tuple[str, np.ndarray]]:
    """Remove all arrays of a VOLO from ``layers``, and yield them with VOLO's names and layouts."""
    for index, number in ((0, 1), (3, 2), (6, 3)):
        yield f"patch_embed.conv.{index}.weight", _convolution(layers[f"stem_{number}_conv"].pop("kernel"))
        yield from _norm(f"patch_embed.conv.{index + 1}", layers[f"stem_{number}_bn"])
    yield from _affine("patch_embed.proj", layers["stem_patch_conv"], _convolution)
    yield from _affine("network.1.proj", layers["downsample_conv"], _convolution)
    yield "pos_embed", layers["positional_embedding"].popitem()[1]
    outlookers, transformers = _count(layers, "outlook_block"), _count(layers, "MHSA_block")
    for block in range(outlookers):
        yield from _block(f"network.0.{block}", layers, f"outlook_block{block}_", _outlook)
    for number, place in enumerate(_places(outlookers, transformers)):
        yield from _block(place, layers, f"MHSA_block{number}_", _attention)
    if "class_token" in layers:
        yield "cls_token", layers["class_token"].popitem()[1]
        for block in range(_count(layers, "classfiers")):
            yield from _block(f"post_network.{block}", layers, f"classfiers{block}_", _class_attention)
        yield from _norm("norm", layers["pre_out_LN"])
    for ours, theirs in (("head", "token_head"), ("aux_head", "aux_head")):
        if theirs in layers:
            yield from _affine(ours, layers[theirs], np.transpose)


def _places(outlookers: int, transformers: int) -> list[str]:
    """Return VOLO's name of every transformer block: Keras numbers all blocks, VOLO numbers them by group."""
    for config in VARIANTS.values():
        if (config.depths[0], sum(config.depths[1:])) == (outlookers, transformers):
            groups = enumerate(config.depths[1:], 2)
            return [f"network.{group}.{block}" for group, blocks in groups for block in range(blocks)]
    raise KeyError(f"known number of blocks, but {outlookers} Outlookers and {transformers} transformers")


def _count(layers: _Layers, prefix: str) -> int:
    return len({name for name in layers if name.startswith(prefix) and name.endswith("_mlp_LN")})


#: A function that converts an attention: VOLO's prefix, all layers, Keras' prefix → names and arrays.
Converter = Callable[[str, _Layers, str], Iterator[tuple[str, np.ndarray]]]


def _block(ours: str, layers: _Layers, theirs: str, attention: Converter) -> Iterator[tuple[str, np.ndarray]]:
    yield from _norm(f"{ours}.norm1", layers[f"{theirs}LN"])
    yield from attention(f"{ours}.attn", layers, f"{theirs}attn_")
    yield from _norm(f"{ours}.norm2", layers[f"{theirs}mlp_LN"])
    yield from _affine(f"{ours}.mlp.fc1", layers[f"{theirs}mlp_dense_1"], np.transpose)
    yield from _affine(f"{ours}.mlp.fc2", layers[f"{theirs}mlp_dense_2"], np.transpose)


def _outlook(ours: str, layers: _Layers, theirs: str) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{ours}.v.weight", layers[f"{theirs}v"].pop("kernel").T
    yield from _affine(f"{ours}.attn", layers[f"{theirs}attn"], np.transpose)
    yield from _affine(f"{ours}.proj", layers[f"{theirs}out"], np.transpose)


def _attention(ours: str, layers: _Layers, theirs: str) -> Iterator[tuple[str, np.ndarray]]:
    query, key, value = _by_head(layers, theirs)
    yield f"{ours}.qkv.weight", np.concatenate([query, key, value])
    yield from _projection(ours, layers, theirs)


def _class_attention(ours: str, layers: _Layers, theirs: str) -> Iterator[tuple[str, np.ndarray]]:
    query, key, value = _by_head(layers, theirs)
    yield f"{ours}.q.weight", query
    yield f"{ours}.kv.weight", np.concatenate([key, value])
    yield from _projection(ours, layers, theirs)


def _by_head(layers: _Layers, theirs: str) -> list[np.ndarray]:
    """Convert query, key and value from (inputs, heads, head dim) to (outputs, inputs)."""
    arrays = layers[f"{theirs}mhsa"]
    kernels = (arrays.pop(f"{part}/kernel") for part in ("query", "key", "value"))
    return [kernel.reshape(kernel.shape[0], -1).T for kernel in kernels]


def _projection(ours: str, layers: _Layers, theirs: str) -> Iterator[tuple[str, np.ndarray]]:
    kernel = layers[f"{theirs}mhsa"].pop("attention_output/kernel")  # (heads, head dim, outputs)
    yield f"{ours}.proj.weight", kernel.reshape(-1, kernel.shape[-1]).T
    yield f"{ours}.proj.bias", layers[f"{theirs}bias"].popitem()[1]


def _norm(ours: str, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    yield from ((f"{ours}.{names[name]}", arrays.pop(name)) for name in list(arrays))


def _affine(
    ours: str, arrays: dict[str, np.ndarray], transpose: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{ours}.weight", transpose(arrays.pop("kernel"))
    yield f"{ours}.bias", arrays.pop("bias")


def _convolution(kernel: np.ndarray) -> np.ndarray:
    """Transpose (height, width, inputs, outputs) to (outputs, inputs, height, width)."""
    return kernel.transpose(3, 2, 0, 1)
