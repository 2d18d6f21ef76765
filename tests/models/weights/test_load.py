"""Weights in the format of each other system, written by its own code, give its logits here."""

import copy
import json
import pathlib
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peers import of_authors, randomize, timm_from_config, timm_micro
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed_nhwc, resample_patch_embed
from timm.models import adapt_input_conv
from torch.testing import assert_close

from volo.models import VARIANTS, create_model, load_model, save_model
from volo.models.weights.read import read_checkpoint

NAME = "volo_micro_32"
CONFIG = VARIANTS[NAME]


@pytest.fixture(scope="module")
def peer():
    return timm_micro()


@pytest.fixture(scope="module")
def other():
    return timm_micro(seed=1)


def images(size=(32, 32), channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def assert_same(model, peer, x=None):
    x = images() if x is None else x
    expected = peer.eval()(x)
    assert expected.std() > 0.1  # the bound means something
    assert_close(model.eval()(x), expected, atol=2e-5, rtol=0)


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


# Every form of file


def forms(peer):
    """Return file name → function that writes the file, one for each known format."""
    state = peer.state_dict()
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    blocks = {name.replace("network.0.0.", "network.0.0._orig_mod."): tensor for name, tensor in state.items()}
    return {
        "weights.safetensors": lambda path: save_file(state, path),
        "model.pth": lambda path: torch.save(state, path),
        "old.pth": lambda path: torch.save(state, path, _use_new_zipfile_serialization=False),
        "official.pth.tar": lambda path: torch.save(of_authors(peer), path),
        "official-old.pth.tar": lambda path: torch.save(of_authors(peer), path, _use_new_zipfile_serialization=False),
        "plain.pt": lambda path: torch.save({"state_dict": OrderedDict(state), "epoch": 3}, path),
        "torchvision.pth": lambda path: torch.save({"model": state, "epoch": 3}, path),
        "compiled.bin": lambda path: torch.save(compiled, path),
        "compiled-ddp.bin": lambda path: torch.save({f"module.{k}": v for k, v in compiled.items()}, path),
        "compiled-blocks.bin": lambda path: torch.save(blocks, path),
        "wrapper.safetensors": lambda path: save_file({f"timm_model.{k}": v for k, v in state.items()}, path),
        "no-suffix": lambda path: torch.save(state, path),
        "parameters.pth": lambda path: torch.save(dict(peer.named_parameters()) | dict(peer.named_buffers()), path),
    }


@pytest.mark.parametrize("file", forms(timm_micro()))
def test_a_file_of_any_form_gives_the_logits_of_the_model_that_wrote_it(tmp_path, peer, file, capfd, caplog):
    forms(peer)[file](tmp_path / file)
    model = create_model(NAME, pretrained=tmp_path / file)
    assert_same(model, peer)
    assert model.training is False  # assert_same has set it
    assert not caplog.records  # nothing was changed, so there is nothing to say
    assert_same(load_model(tmp_path / file).model, peer)


def test_a_model_object_and_a_state_dict_load_and_share_no_memory(peer):
    given = copy.deepcopy(peer)
    for source in (given, given.state_dict()):
        model = create_model(NAME, pretrained=source)
        assert_same(model, peer)
        with torch.no_grad():
            model.head.weight.zero_()
        assert given.head.weight.any()


def test_our_state_dict_goes_back_into_timm(peer):
    model = create_model(NAME, pretrained=peer)
    back = timm_from_config(CONFIG)
    back.load_state_dict(model.state_dict(), strict=True)
    assert_same(model, back)


def test_the_other_entries_of_a_checkpoint_are_read_and_harmless(tmp_path, peer):
    beside = {
        "best": np.float64(84.2),
        "path": pathlib.Path("/data/x"),
        "settings": SimpleNamespace(lr=0.1),
    }
    path = saved(tmp_path / "a.pth", {**of_authors(peer), **beside})
    assert_same(create_model(NAME, pretrained=path), peer)
    assert read_checkpoint(path).about == {"epoch": 309, "arch": "volo_d1", "version": 2, "metric": 84.2, "best": 84.2}


# Averages


@pytest.mark.parametrize(
    ("raw", "average"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("current_model_state", "state_dict")],
)
def test_averaged_weights_are_the_default_which_is_logged(tmp_path, peer, other, caplog, raw, average):
    content = {raw: peer.state_dict(), average: other.state_dict(), "epoch": 1}
    path = saved(tmp_path / "a.pth", content)
    assert_same(create_model(NAME, pretrained=path), other)
    assert caplog.messages == [f"{path}: the averaged weights ({average}) were loaded; ema=False loads the last ones"]
    assert_same(create_model(NAME, pretrained=path, ema=True), other)
    assert_same(create_model(NAME, pretrained=path, ema=False), peer)
    assert_same(load_model(path, ema=False).model, peer)


def test_torchs_averaged_model_loads(tmp_path, peer):
    averaged = torch.optim.swa_utils.AveragedModel(peer)
    path = saved(tmp_path / "a.pth", {"model": peer.state_dict(), "model_ema": averaged.state_dict()})
    assert_same(create_model(NAME, pretrained=path, ema=True), peer)


def test_settings_of_an_average_are_not_taken_for_averaged_weights(tmp_path, peer, caplog):
    path = saved(tmp_path / "a.pth", {"state_dict": peer.state_dict(), "ema": {"decay": 0.999}})
    assert_same(create_model(NAME, pretrained=path), peer)
    assert not caplog.records


def test_tied_parameters_become_separate_parameters(tmp_path, peer):
    tied = {**peer.state_dict(), "aux_head.weight": peer.head.weight.detach()}
    trained = load_model(saved(tmp_path / "a.pth", tied))
    trained.save_pretrained(tmp_path / "again")  # safetensors refuses shared memory
    with torch.no_grad():
        trained.model.head.weight.zero_()
    assert torch.equal(trained.model.aux_head.weight, peer.head.weight)
    assert load_model(tmp_path / "again").model.head.weight.any()


def test_missing_averaged_weights_are_an_error(tmp_path, peer):
    path = saved(tmp_path / "a.pth", of_authors(peer))
    with pytest.raises(ValueError, match=r"a\.pth has no averaged weights; leave ema out$"):
        create_model(NAME, pretrained=path, ema=True)
    path = saved(tmp_path / "b.pth", {"state_dict_ema": peer.state_dict()})
    with pytest.raises(ValueError, match=r"b\.pth has only averaged weights"):
        create_model(NAME, pretrained=path, ema=False)
    with pytest.raises(ValueError, match="ema selects among pretrained weights"):
        create_model(NAME, ema=True)


# Other sizes, channels, classes, precisions


@pytest.mark.parametrize("size", [(48, 48), (16, 64), (40, 24)])
def test_position_embeddings_are_resized_as_the_authors_do(peer, size, caplog):
    grid = tuple(side // 8 for side in size)
    resized = timm_micro(img_size=size)
    state = peer.state_dict()
    # The authors' resize_pos_embed_4d: bicubic, no aligned corners, no antialiasing. timm's has it as an option.
    theirs = F.interpolate(state["pos_embed"].permute(0, 3, 1, 2), size=grid, mode="bicubic").permute(0, 2, 3, 1)
    assert_close(
        resample_abs_pos_embed_nhwc(state["pos_embed"], list(grid), antialias=False), theirs, atol=1e-6, rtol=0
    )
    resized.load_state_dict({**state, "pos_embed": theirs})
    model = create_model(NAME, pretrained=peer, img_size=size)
    assert model.config.img_size == size
    assert_same(model, resized, images(size))
    assert caplog.messages == [f"the given VOLO: position embeddings resized from 4x4 to {grid[0]}x{grid[1]}"]


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_is_adapted_as_timm_does(peer, channels, caplog):
    adapted = timm_micro(in_chans=channels)
    state = peer.state_dict()
    stem = "patch_embed.conv.0.weight"
    adapted.load_state_dict({**state, stem: adapt_input_conv(channels, state[stem])})
    model = create_model(NAME, pretrained=peer, in_chans=channels)
    assert_same(model, adapted, images(channels=channels))
    assert caplog.messages == [f"the given VOLO: first convolution adapted from 3 to {channels} channels"]


@pytest.mark.parametrize("patch", [2, 8, 16])
def test_the_projection_of_patches_is_resampled_as_timm_does(peer, patch, caplog):
    """timm implements FlexiViT's resampling. The patches of micro have 4 pixels, so its projection is 2×2."""
    proj = "patch_embed.proj.weight"
    model = create_model(NAME, pretrained=peer, patch_size=patch, img_size=8 * patch)
    expected = resample_patch_embed(peer.state_dict()[proj], [patch // 2] * 2, interpolation="bilinear")
    assert_close(model.state_dict()[proj], expected, atol=1e-5, rtol=1e-5)
    assert caplog.messages == [f"the given VOLO: patch projection resampled from 4 to {patch} pixels"]


@pytest.mark.parametrize("patch", [8, 16])
def test_patches_resized_to_twice_the_size_give_the_same_tokens(peer, patch):
    projection = create_model(NAME, pretrained=peer, patch_size=patch).patch_embed.proj
    maps = torch.randn(3, projection.in_channels, 2, 2, generator=torch.Generator().manual_seed(0))
    larger = F.interpolate(maps, scale_factor=patch // 4, mode="bilinear", antialias=True)
    assert_close(projection(larger), peer.patch_embed.proj(maps), atol=1e-5, rtol=1e-4)


def test_heads_are_kept_when_the_class_count_fits(peer, caplog):
    assert_same(create_model(NAME, pretrained=peer, num_classes=10), peer)
    assert not caplog.records


def test_heads_are_replaced_on_request_which_is_logged(peer, caplog):
    torch.manual_seed(0)
    model = create_model(NAME, pretrained=peer, num_classes=21).eval()
    assert caplog.messages == ["the given VOLO: heads of 10 classes replaced by fresh ones of 21"]
    assert model(images()).shape == (2, 21)
    for head in (model.head, model.aux_head):
        assert 0.05 < head.weight.std() < 0.12  # 1 / sqrt(128) = 0.088
        assert not head.bias.any()
        assert head.weight.requires_grad
    assert_close(model.forward_features(images()).cls, peer.forward_features(images())[:, 0], atol=2e-5, rtol=0)


def test_heads_are_left_out_on_request_which_is_logged(peer, caplog):
    model = create_model(NAME, pretrained=peer, num_classes=0).eval()
    assert caplog.messages == ["the given VOLO: heads of 10 classes left out, as requested"]
    assert model.head is None
    assert_close(model.forward_features(images()).cls, peer.forward_features(images())[:, 0], atol=2e-5, rtol=0)


def test_a_model_without_heads_loads_as_one(tmp_path, caplog):
    headless = timm_micro(num_classes=0)
    path = saved(tmp_path / "a.pth", headless.state_dict())
    model = create_model(NAME, pretrained=path, num_classes=0).eval()
    assert_close(model.forward_features(images()).cls, headless.forward_features(images())[:, 0], atol=2e-5, rtol=0)
    assert not caplog.records
    with pytest.raises(
        ValueError, match="has no class head, the requested model 10 classes; give num_classes=0 to keep"
    ):
        create_model(NAME, pretrained=path)


def test_a_model_without_a_token_head_gives_its_logits(tmp_path, caplog):
    tokenless = timm_micro(use_aux_head=False)
    path = saved(tmp_path / "a.pth", tokenless.state_dict())
    assert_same(create_model(NAME, pretrained=path), tokenless)
    assert caplog.messages == [f"{path}: token head is missing and set to zero, which does not change the logits"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_becomes_float32_and_a_loss_is_logged(tmp_path, peer, dtype, caplog):
    other = copy.deepcopy(peer).to(dtype)
    path = tmp_path / "a.safetensors"
    save_file(other.state_dict(), path)
    model = create_model(NAME, pretrained=path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert caplog.messages == ([f"{path}: float64 converted to float32"] if dtype == torch.float64 else [])
    assert_same(model, other.float())


# Training on loaded weights


def test_training_changes_the_model_and_not_the_file(tmp_path, peer):
    path = tmp_path / "a.safetensors"
    save_file(peer.state_dict(), path)
    before = path.read_bytes()
    model = create_model(NAME, pretrained=path, drop_path_rate=0.1)
    assert model.training
    assert model.config.drop_path_rate == 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images()).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, peer.head.weight)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert path.read_bytes() == before
    assert_same(create_model(NAME, pretrained=path), peer)


def test_a_loaded_model_does_not_change_with_its_file(tmp_path, peer, other):
    path = tmp_path / "model.safetensors"
    save_model(tmp_path, CONFIG, peer.state_dict(), class_names=tuple("abcdefghij"), preprocessing={"size": [32, 32]})
    model = load_model(tmp_path).model
    save_model(tmp_path, CONFIG, other.state_dict(), class_names=tuple("abcdefghij"), preprocessing={"size": [32, 32]})
    assert_same(model, peer)
    path.unlink()
    assert_same(model, peer)


# What belongs to weights: names and preprocessing


def test_a_file_of_a_published_size_has_its_preprocessing_and_imagenets_names(tmp_path):
    config = VARIANTS["volo_d1_384"]
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in timm_from_config(config).state_dict().items()}
    path = saved(tmp_path / "d1.pth", {name: torch.zeros(shape) for name, shape in shapes.items()})
    trained = load_model(path)
    assert trained.model.config == config
    assert trained.preprocessing == {"size": (384, 384), "crop_pct": 1.0, "interpolation": "bicubic"}
    assert len(set(trained.class_names)) == 1000
    assert trained.class_names[0] == "tench"
    assert trained.class_names[134] == "crane bird"


def test_timms_folder_gives_names_and_preprocessing(tmp_path, peer):
    save_file(peer.state_dict(), tmp_path / "model.safetensors")
    settings = {
        "input_size": [3, 32, 32],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    names = [f"n{i}" for i in range(10)]
    described = {"architecture": "x", "num_classes": 10, "label_names": names, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(described))
    trained = load_model(tmp_path)
    assert_same(trained.model, peer)
    assert trained.class_names == tuple(names)
    assert trained.preprocessing == {
        "size": [32, 32],
        **{k: settings[k] for k in ("crop_pct", "interpolation", "mean", "std")},
    }


def test_a_folder_of_transformers_timm_wrapper_loads(tmp_path, peer):
    save_file(
        {f"timm_model.{k}": v for k, v in peer.state_dict().items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    described = {
        "architecture": "volo_d1_224",
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "id2label": {str(i): f"name {i}" for i in reversed(range(10))},
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.96, "test_input_size": None},
    }
    (tmp_path / "config.json").write_text(json.dumps(described))
    trained = load_model(tmp_path)
    assert_same(trained.model, peer)
    assert trained.class_names == tuple(f"name {i}" for i in range(10))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_our_folders_of_any_channels_load(tmp_path, channels):
    model = randomize(create_model(NAME, in_chans=channels, img_size=(32, 48), num_classes=3)).eval()
    described = {"class_names": ("a", "b", "c"), "preprocessing": {"size": [32, 48]}}
    save_model(tmp_path, model.config, model.state_dict(), **described)
    trained = load_model(tmp_path)
    x = images((32, 48), channels)
    assert_close(trained.model(x), model(x), atol=0, rtol=0)
    bare = saved(tmp_path / "bare.pth", model.state_dict())
    trained = load_model(bare)
    assert_close(trained.model(x), model(x), atol=0, rtol=0)
    assert trained.class_names == ("0", "1", "2")
    assert ("mean" in trained.preprocessing) == (channels == 1)


def test_a_custom_size_loads_with_its_description_or_with_given_heads(tmp_path):
    config = replace(CONFIG, depths=(1, 1, 1, 1), heads=(2, 8))
    model = randomize(create_model(NAME, depths=config.depths, heads=config.heads)).eval()
    save_model(tmp_path, config, model.state_dict(), class_names=tuple("abcdefghij"), preprocessing={"size": [32, 32]})
    assert_close(load_model(tmp_path).model(images()), model(images()), atol=0, rtol=0)
    bare = saved(tmp_path / "bare.pth", model.state_dict())
    with pytest.raises(ValueError, match=r"a VOLO of a custom size .* no tensor shows its number of heads"):
        load_model(bare)
    again = create_model(NAME, pretrained=bare, depths=(1, 1, 1, 1), heads=(2, 8))
    assert_close(again.eval()(images()), model(images()), atol=0, rtol=0)
