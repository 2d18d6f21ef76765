"""Models of this project in timm: building, descriptions, adapted weights and feature maps."""

import subprocess
import sys
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.optim import create_optimizer_v2
from torch.testing import assert_close

import volo
from volo.models import VARIANTS, VOLO, create_model
from volo.models.weights.published import WEIGHTS

SMALL = "vision_outlooker_micro_32"
D1 = {"stem_width": 8, "dims": (16, 32), "depths": (1, 1, 1, 1), "heads": (2, 4)}  # a D1 that is built at once


@pytest.fixture(scope="module", autouse=True)
def registered():
    return volo.register_with_timm()


def images(size=32, channels=3):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_every_size_has_a_name_that_shadows_none_of_timms(registered):
    assert registered == [name.replace("volo_", "vision_outlooker_") for name in VARIANTS]
    assert set(timm.list_models("vision_outlooker*")) == set(registered)
    assert not set(timm.list_models("volo_*")) & set(registered)
    assert timm.models.model_entrypoint("volo_d1_224").__module__ == "timm.models.volo"


def test_registering_again_changes_nothing(registered, recwarn):
    before = timm.models.model_entrypoint(SMALL)
    assert volo.register_with_timm() == registered
    assert timm.models.model_entrypoint(SMALL) is before
    assert not recwarn.list


def test_importing_volo_registers_nothing():
    code = "import timm, volo, volo.models; volo.create_model('volo_micro_32'); print(timm.list_models('vision_out*'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", VARIANTS)
def test_timm_builds_the_same_model(name):
    with torch.device("meta"):
        model = timm.create_model(name.replace("volo", "vision_outlooker", 1))
    assert type(model) is VOLO
    assert model.config == VARIANTS[name]


def test_timms_arguments_reach_the_model():
    model = timm.create_model(
        SMALL, num_classes=7, in_chans=1, img_size=48, drop_rate=0.0, drop_path_rate=0.1, dtype=torch.bfloat16
    )
    assert model.config == replace(
        VARIANTS["volo_micro_32"], num_classes=7, in_chans=1, img_size=(48, 48), drop_path_rate=0.1
    )
    assert model(images(48, 1).bfloat16()).shape == (2, 7)
    with pytest.raises(ValueError, match="unknown model argument 'num_clases'; did you mean 'num_classes'"):
        timm.create_model(SMALL, num_clases=7)
    with pytest.raises(ValueError, match=r"no dropout before its heads: drop_rate must be 0, not 0\.1"):
        timm.create_model(SMALL, drop_rate=0.1)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_the_preprocessing_is_that_of_the_published_weights(weights):
    ours = timm.models.get_pretrained_cfg(weights.name.replace("volo", "vision_outlooker", 1)).to_dict()
    theirs = timm.models.get_pretrained_cfg(weights.name).to_dict()
    same = ("input_size", "crop_pct", "interpolation", "mean", "std", "num_classes", "classifier", "first_conv")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["hf_hub_id"] == theirs["hf_hub_id"]
    assert timm.models.is_model_pretrained(f"vision_outlooker_{weights.model.removeprefix('volo_')}")


def test_the_data_configuration_is_found():
    config = resolve_model_data_config(timm.create_model(SMALL))
    assert (config["input_size"], config["crop_pct"], config["interpolation"]) == ((3, 32, 32), 1.0, "bicubic")
    create_transform(**config)


# Feature maps


@pytest.mark.parametrize(
    ("asked", "stages"), [((0, 1), (0, 1)), ((1,), (1,)), ([0], (0,)), (1, (1,)), ((-1, 0), (1, 0))]
)
def test_feature_maps_come_with_the_published_channels_and_reductions(asked, stages):
    model = timm.create_model(SMALL, features_only=True, out_indices=asked).eval()
    channels, strides = model.feature_info.channels(), model.feature_info.reduction()
    assert channels == [(64, 128)[stage] for stage in stages]
    assert strides == [(4, 8)[stage] for stage in stages]
    maps = model(images(48))
    assert [tuple(m.shape) for m in maps] == [(2, c, 48 // s, 48 // s) for c, s in zip(channels, strides, strict=True)]


def test_feature_maps_of_both_stages_are_the_default():
    torch.manual_seed(0)
    plain = create_model("volo_micro_32").eval()
    model = timm.create_model(SMALL, features_only=True).eval()
    model.model.load_state_dict(plain.state_dict(), strict=False)
    assert_close(model(images()), list(plain.forward_feature_maps(images())))


def test_every_parameter_of_a_feature_model_is_used():
    model = timm.create_model(SMALL, features_only=True)
    sum(m.square().sum() for m in model(images())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("asked", [(0, 1, 2), (4,), (), 0, -1])
def test_unknown_stages_are_an_error(asked):
    with pytest.raises(ValueError, match="out_indices must be 0 and 1, the two stages, or one of them"):
        timm.create_model(SMALL, features_only=True, out_indices=asked)


# Weights, read by timm


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as timm/volo_d1_224.sail_in1k is, with random weights, and the model that they are from."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(0)
    model = create_model("volo_d1_224", **D1).eval()
    torch.nn.init.normal_(model.head.weight)
    save_file(model.state_dict(), path)
    return path, model


def load(path, **options):
    name = "vision_outlooker_d1_224.sail_in1k"
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **D1, **options).eval()


def test_published_weights_load(published):
    path, model = published
    assert_close(load(path)(images(224)), model(images(224)))


def test_published_weights_fit_other_sizes_channels_and_classes(published):
    path, model = published
    other = load(path, img_size=(96, 160), in_chans=1, num_classes=5)
    wide = torch.randn(1, 1, 96, 160)
    assert other(wide).shape == (1, 5)
    expected = model.get_intermediate_layers(wide.expand(-1, 3, -1, -1))
    assert_close(other.get_intermediate_layers(wide), expected, atol=1e-4, rtol=1e-4)


def test_published_weights_give_feature_maps(published):
    path, model = published
    assert_close(load(path, features_only=True)(images(64)), list(model.forward_feature_maps(images(64))))


def test_timms_optimizer_has_the_authors_parameters_without_weight_decay():
    model = timm.create_model(SMALL)
    groups = create_optimizer_v2(model, "adamw", weight_decay=0.05).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {name for name, p in model.named_parameters() if p.ndim > 1} - {"pos_embed", "cls_token"}
