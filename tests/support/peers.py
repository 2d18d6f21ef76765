"""Other people's VOLO, small: timm's class, and checkpoints laid out as others lay them out."""

import argparse

import torch
from timm.models.volo import VOLO as TimmVOLO
from torch import nn

from volo.models import VARIANTS, VOLOConfig


def timm_from_config(config: VOLOConfig, **settings) -> TimmVOLO:
    """timm's class, for a size that timm does not name."""
    (fine, coarse), (fine_heads, coarse_heads) = config.dims, config.heads
    arguments = {"img_size": config.img_size, "num_classes": config.num_classes, "in_chans": config.in_chans}
    return TimmVOLO(
        layers=config.depths,
        embed_dims=[fine, coarse, coarse, coarse],
        num_heads=[fine_heads, coarse_heads, coarse_heads, coarse_heads],
        patch_size=config.patch_size,
        stem_hidden_dim=config.stem_width,
        mlp_ratio=config.mlp_ratio,
        **{**arguments, **settings},
    )


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and statistics that all show in the logits: fresh ones hide biases and average windows evenly."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        elif name.endswith(("attn.attn.weight", "qkv.weight", "attn.kv.weight", "attn.q.weight")):
            parameter.mul_(4)
    nn.init.normal_(model.pos_embed, std=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


def timm_micro(seed: int = 0, **settings) -> TimmVOLO:
    """timm's class in the form of ``volo_micro_32``, every weight random, in evaluation mode."""
    torch.manual_seed(seed)
    return randomize(timm_from_config(VARIANTS["volo_micro_32"], **settings), seed).eval()


def of_authors(model: nn.Module, averaged: nn.Module | None = None, prefix: str = "module.") -> dict:
    """What the authors' training saves: wrapped names, an average, settings, epoch."""

    def named(model):
        return {prefix + name: tensor for name, tensor in model.state_dict().items()}

    content = {
        "epoch": 309,
        "arch": "volo_d1",
        "state_dict": named(model),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999)}]},
        "version": 2,
        "args": argparse.Namespace(model="volo_d1", lr=1.6e-3, data_dir="/data/imagenet", mean=None),
        "metric": 84.2,
    }
    return content if averaged is None else {**content, "state_dict_ema": named(averaged)}


def write_keras(path, state: dict, *, heads: tuple[int, int], whole: bool) -> None:
    """An .h5 as keras_cv_attention_models publishes it, layer by layer; whole: as Keras' ``model.save`` has it.

    Source of names and layouts: its ``volo/volo.py``, and Keras' own HDF5 form, ``layer/layer/kernel:0``.
    """
    import h5py

    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    layers: dict[str, dict] = {}

    def dense(layer, name, bias=True):
        layers[layer] = {"kernel": arrays[f"{name}.weight"].T} | ({"bias": arrays[f"{name}.bias"]} if bias else {})

    def conv(layer, name, bias=True):
        layers[layer] = {"kernel": arrays[f"{name}.weight"].transpose(2, 3, 1, 0)}
        layers[layer] |= {"bias": arrays[f"{name}.bias"]} if bias else {}

    def norm(layer, name):
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        layers[layer] = {k: arrays[f"{name}.{v}"] for k, v in names.items() if f"{name}.{v}" in arrays}

    def mhsa(layer, name, matrices, heads):
        parts = {}
        for part, matrix in zip(("query", "key", "value"), matrices, strict=True):
            parts[f"{part}/kernel"] = matrix.T.reshape(matrix.shape[1], heads, -1)
        out = arrays[f"{name}.proj.weight"].T
        parts["attention_output/kernel"] = out.reshape(heads, -1, out.shape[1])
        layers[f"{layer}mhsa"] = parts
        layers[f"{layer}bias"] = {"bias": arrays[f"{name}.proj.bias"]}

    def mlp(layer, name):
        norm(f"{layer}LN", f"{name}.norm1")
        norm(f"{layer}mlp_LN", f"{name}.norm2")
        dense(f"{layer}mlp_dense_1", f"{name}.mlp.fc1")
        dense(f"{layer}mlp_dense_2", f"{name}.mlp.fc2")

    for number, index in ((1, 0), (2, 3), (3, 6)):
        conv(f"stem_{number}_conv", f"patch_embed.conv.{index}", bias=False)
        norm(f"stem_{number}_bn", f"patch_embed.conv.{index + 1}")
    conv("stem_patch_conv", "patch_embed.proj")
    conv("downsample_conv", "network.1.proj")
    layers["positional_embedding"] = {"positional_embedding": arrays["pos_embed"]}
    layers["class_token"] = {"tokens": arrays["cls_token"]}
    blocks = sorted({tuple(map(int, n.split(".")[1:3])) for n in arrays if n.startswith("network.") and "norm1" in n})
    for group, block in blocks:
        name = f"network.{group}.{block}"
        if group == 0:
            layer = f"outlook_block{block}_"
            dense(f"{layer}attn_v", f"{name}.attn.v", bias=False)
            dense(f"{layer}attn_attn", f"{name}.attn.attn")
            dense(f"{layer}attn_out", f"{name}.attn.proj")
        else:
            layer = f"MHSA_block{blocks.index((group, block)) - blocks.index((2, 0))}_"
            mhsa(
                f"{layer}attn_",
                f"{name}.attn",
                arrays[f"{name}.attn.qkv.weight"].reshape(3, -1, state["pos_embed"].shape[-1]),
                heads[1],
            )
        mlp(layer, name)
    for block in range(2):
        name, layer = f"post_network.{block}", f"classfiers{block}_"
        kv = arrays[f"{name}.attn.kv.weight"].reshape(2, -1, state["pos_embed"].shape[-1])
        mhsa(f"{layer}attn_", f"{name}.attn", [arrays[f"{name}.attn.q.weight"], *kv], heads[1])
        mlp(layer, name)
    norm("pre_out_LN", "norm")
    dense("token_head", "head")
    dense("aux_head", "aux_head")
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        root.create_group("stem_1_relu")  # layers without weights are there too
        for layer, parts in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{part}:0".encode() for part in parts]
            for part, array in parts.items():
                group.create_dataset(f"{layer}/{part}:0", data=array)
