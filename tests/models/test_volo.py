"""The model family: sizes, names, any image size, heads, features, stochastic depth, saving, compiling, exporting."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from volo.models import VARIANTS, VOLO, Features, VOLOConfig, create_model, list_models, model_config

PAPER_MILLIONS = {"volo_d1": 26.63, "volo_d2": 58.68, "volo_d3": 86.33, "volo_d4": 192.96, "volo_d5": 295.46}
OWN_MILLIONS = {
    "volo_micro_32": (0.1, 1.3),
    "volo_tiny_32": (1.3, 2.0),
    "volo_small_32": (2.0, 4.0),
    "volo_d0_224": (8.0, 12.0),
}


def micro(**overrides) -> VOLO:
    torch.manual_seed(0)
    return create_model("volo_micro_32", **overrides).eval()


def images(batch: int = 2, height: int = 32, width: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def millions(name: str) -> float:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create_model(name).parameters()) / 1e6


@pytest.fixture(scope="module")
def model() -> VOLO:
    return micro()


# Sizes and names


@pytest.mark.parametrize("name", PAPER_MILLIONS)
def test_parameter_counts_are_those_of_the_paper(name):
    assert millions(f"{name}_224") == pytest.approx(PAPER_MILLIONS[name], abs=0.01)


@pytest.mark.parametrize("name", OWN_MILLIONS)
def test_parameter_counts_of_the_small_models_stay_in_their_range(name):
    low, high = OWN_MILLIONS[name]
    assert low <= millions(name) <= high


@pytest.mark.parametrize("name", VARIANTS)
def test_a_name_ends_in_the_image_size_of_its_position_embeddings(name):
    size = int(name.rpartition("_")[2])
    with torch.device("meta"):
        model = create_model(name)
    assert model.config == VARIANTS[name]
    assert model.config.img_size == (size, size)
    tokens = size // model.feature_strides[1]
    assert model.pos_embed.shape == (1, tokens, tokens, model.config.dims[1])
    assert tokens * model.feature_strides[1] == size


def test_models_are_listed_smallest_first():
    assert list_models() == list(VARIANTS)
    sizes = [millions(name) for name in list_models()]
    assert [round(size) for size in sizes] == sorted(round(size) for size in sizes)


@pytest.mark.parametrize("name", sorted({full.rpartition("_")[0] for full in VARIANTS}))
def test_a_bare_name_is_the_smallest_size(name):
    assert model_config(name) == VARIANTS[f"{name}_32" if f"{name}_32" in VARIANTS else f"{name}_224"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("volo_d1_225", "unknown model 'volo_d1_225'; did you mean 'volo_d1_224'"),
        ("volo_mirco_32", "did you mean 'volo_micro_32'"),
        ("resnext", "unknown model 'resnext'; available: .*volo_d5_512"),
        ("", "unknown model ''; available"),
        ("volo", "unknown model 'volo'"),
    ],
)
def test_an_unknown_model_is_an_error_that_names_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        create_model(name)


@pytest.mark.parametrize(
    ("argument", "nearest"),
    [("num_clases", "num_classes"), ("drop_path", "drop_path_rate"), ("in_channels", "in_chans")],
)
def test_an_unknown_argument_is_an_error_that_names_the_nearest(argument, nearest):
    with pytest.raises(ValueError, match=f"unknown model argument '{argument}'; did you mean '{nearest}'"):
        create_model("volo_micro_32", **{argument: 1})


@pytest.mark.parametrize(
    "values",
    [
        {"num_classes": -1},
        {"num_classes": 2.0},
        {"in_chans": 0},
        {"in_chans": "3"},
        {"patch_size": 3},
        {"patch_size": 0},
        {"img_size": 7},
        {"img_size": (32, 7)},
        {"img_size": (32, 32, 32)},
        {"img_size": (32.0, 32.0)},
        {"dims": (64,)},
        {"dims": (65, 128)},
        {"dims": (64, 130)},
        {"depths": (2, 1, 1)},
        {"depths": (0, 1, 1, 1)},
        {"heads": (2, 0)},
        {"stem_width": 0},
        {"class_depth": 0},
        {"outlook_kernel": 4},
        {"outlook_kernel": 0},
        {"outlook_stride": 0},
        {"drop_path_rate": 1.0},
        {"drop_path_rate": -0.1},
        {"drop_path_rate": "0.1"},
        {"pos_drop_rate": 1.5},
        {"attn_drop_rate": -1},
    ],
    ids=str,
)
def test_a_value_that_is_not_allowed_is_an_error_that_names_its_field(values):
    (field,) = values
    with pytest.raises(ValueError, match=field):
        create_model("volo_micro_32", **values)


def test_a_configuration_survives_json_lists():
    config = VARIANTS["volo_d1_224"]
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config).items()}
    assert VOLOConfig.from_dict(values) == config


# Any size


@settings(max_examples=40, deadline=None)
@given(height=st.integers(8, 70), width=st.integers(8, 70), batch=st.integers(1, 2))
def test_any_size_of_at_least_one_token_runs(model, height, width, batch):
    x = images(batch, height, width)
    with torch.no_grad():
        logits = model(x)
        features = model.forward_features(x)
    grid = tuple((side + 1) // 2 // 2 // 2 for side in (height, width))  # the stem rounds up, what follows down
    assert logits.shape == (batch, 10)
    assert features.tokens.shape == (batch, *grid, 128)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    "options", [{}, {"outlook_kernel": 5}, {"outlook_stride": 1}, {"outlook_stride": 3}, {"patch_size": 2}]
)
def test_other_outlook_windows_and_patches_run_at_sizes_that_leave_a_remainder(options):
    model = micro(img_size=(24, 40), **options)
    height, width = 27, 45
    with torch.no_grad():
        tokens = model.forward_features(images(1, height, width)).tokens
    stride = 2 * model.config.patch_size
    assert tokens.shape[1:3] == ((height + 1) // stride, (width + 1) // stride)


@pytest.mark.parametrize(
    "shape", [(1, 3, 7, 32), (1, 3, 32, 7), (1, 1, 32, 32), (1, 4, 32, 32), (3, 32, 32), (1, 32, 32, 3)]
)
def test_images_of_a_wrong_shape_are_an_error_with_the_shape(model, shape):
    expected = "at least 8x8 pixels" if shape[1:2] == (3,) and len(shape) == 4 else r"images must be \(B, 3, H, W\)"
    with pytest.raises(ValueError, match=expected):
        model(torch.zeros(shape))


def test_position_embeddings_matter_at_their_own_and_at_other_sizes(model):
    changed = micro()
    nn.init.normal_(changed.pos_embed, std=1.0)
    for side in (32, 48):
        assert not torch.allclose(changed(images(1, side, side)), model(images(1, side, side)))


def test_other_channels_and_classes():
    assert micro(in_chans=5, num_classes=7)(images(channels=5)).shape == (2, 7)


# Heads and features


def test_logits_are_those_of_the_class_token_plus_half_the_maximum_over_patches(model):
    cls, tokens = model.forward_head(model.forward_features(images()))
    assert cls.shape == (2, 10)
    assert tokens.shape == (2, 4, 4, 10)
    assert_close(model(images()), cls + 0.5 * tokens.flatten(1, 2).max(dim=1).values)


def test_training_and_evaluation_return_the_same_kind_of_logits():
    model = micro().train()
    assert model(images()).shape == model.eval()(images()).shape == (2, 10)


def test_logits_do_not_depend_on_the_rest_of_the_batch(model):
    together = model(images(3))
    apart = torch.cat([model(image[None]) for image in images(3)])
    assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_embed_then_tokens_then_head_is_the_whole_forward(model):
    logits = model.forward_head(model.forward_tokens(model.embed(images())))
    assert_close(logits.cls + 0.5 * logits.tokens.amax((1, 2)), model(images()))


def test_without_classes_there_are_no_heads_and_the_features_stay():
    model = micro(num_classes=0)
    with_heads = micro()
    assert not [name for name in model.state_dict() if "head" in name]
    unmatched = with_heads.load_state_dict(model.state_dict(), strict=False)
    assert sorted(unmatched.missing_keys) == ["aux_head.bias", "aux_head.weight", "head.bias", "head.weight"]
    features = model.forward_features(images())
    assert isinstance(features, Features)
    assert_close(features, with_heads.forward_features(images()))
    with pytest.raises(RuntimeError, match="num_classes=0"):
        model(images())


@pytest.mark.parametrize(
    ("name", "height", "width"), [("volo_micro_32", 32, 32), ("volo_micro_32", 24, 40), ("volo_d0_224", 64, 96)]
)
def test_feature_maps_have_the_published_channels_and_strides(name, height, width):
    model = create_model(name, num_classes=0).eval()
    with torch.no_grad():
        maps = model.forward_feature_maps(images(1, height, width))
    published = zip(model.feature_channels, model.feature_strides, strict=True)
    assert [tuple(m.shape) for m in maps] == [(1, c, height // s, width // s) for c, s in published]


def test_the_final_norm_turns_the_coarse_feature_map_into_the_tokens(model):
    fine, coarse = model.forward_feature_maps(images())
    assert_close(model.norm(coarse.permute(0, 2, 3, 1)), model.forward_features(images()).tokens)
    assert fine.shape[2] == 2 * coarse.shape[2]


# The maps after chosen blocks


def test_every_block_gives_a_map_of_the_published_channels_and_stride():
    model = create_model("volo_d0_224", num_classes=0).eval()
    assert len(model.block_strides) == len(model.block_channels) == sum(model.config.depths)
    with torch.no_grad():
        maps = model.get_intermediate_layers(images(1, 64, 96), len(model.block_strides))
    published = zip(model.block_channels, model.block_strides, strict=True)
    assert [tuple(m.shape) for m in maps] == [(1, c, 64 // s, 96 // s) for c, s in published]


def test_the_last_maps_of_the_stages_are_the_feature_maps(model):
    fine, coarse = model.forward_feature_maps(images())
    outlookers = model.config.depths[0]
    assert_close(model.get_intermediate_layers(images(), [outlookers - 1, -1]), (fine, coarse))
    (tokens,) = model.get_intermediate_layers(images(), norm=True)
    assert_close(tokens.permute(0, 2, 3, 1), model.forward_features(images()).tokens)


def test_maps_have_the_order_of_the_indices_which_may_be_negative(model):
    everything = model.get_intermediate_layers(images(), 5)
    assert_close(model.get_intermediate_layers(images(), (4, 0, -2)), (everything[4], everything[0], everything[3]))
    assert_close(model.get_intermediate_layers(images(), 2), everything[3:])
    plain = model.get_intermediate_layers(images(), [0], norm=True)
    assert_close(plain, everything[:1])  # the first stage has no norm


def test_blocks_after_the_last_selected_one_are_not_computed(model):
    def fail(*_):
        raise AssertionError("computed")

    with model.network[3].register_forward_pre_hook(fail), model.network[2][0].register_forward_pre_hook(fail):
        model.get_intermediate_layers(images(), [1])
        with pytest.raises(AssertionError, match="computed"):
            model.get_intermediate_layers(images(), [2])


@pytest.mark.parametrize("n", [0, -1, 6, [], [5], [0, -6]])
def test_unknown_blocks_are_an_error(model, n):
    with pytest.raises(ValueError, match=r"n must be 1 to 5 blocks, or indices of blocks from -5 to 4, not"):
        model.get_intermediate_layers(images(), n)


def test_gradients_through_the_maps_are_the_same_with_less_memory():
    model = micro().train()
    gradients = []
    for saves_memory in (False, True):
        model.set_grad_checkpointing(saves_memory)
        model.zero_grad()
        sum(m.square().mean() for m in model.get_intermediate_layers(images(), [1, 4])).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert_close(gradients[0], gradients[1])
    assert {name.split(".")[1] for name in gradients[0] if name.startswith("network")} == set("01234")


# Other heads


@pytest.mark.parametrize("training", [True, False])
def test_fresh_heads_for_other_classes_change_nothing_else(training):
    model = micro(init_std=0.02).double().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "head" not in name}
    model.reset_classifier(1000)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert model.config == micro(init_std=0.02, num_classes=1000).config
    assert model.num_classes == 1000
    assert model(images().double()).shape == (2, 1000)
    for head in (model.get_classifier(), model.aux_head):
        assert head.weight.dtype == torch.float64
        assert head.weight.requires_grad
        assert head.training == training
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not head.bias.any()
    assert not torch.equal(model.head.weight, model.aux_head.weight)


def test_heads_can_be_removed_and_added_again():
    model = micro()
    features = model.forward_features(images())
    model.reset_classifier(0)
    assert model.get_classifier() is model.aux_head is None
    assert model.state_dict().keys() == micro(num_classes=0).state_dict().keys()
    with pytest.raises(RuntimeError, match="num_classes=0"):
        model(images())
    model.reset_classifier(4)
    assert model(images()).shape == (2, 4)
    assert model.num_features == features.cls.shape[1]
    assert_close(model.forward_features(images()), features)


def test_an_invalid_number_of_classes_is_an_error_and_changes_nothing():
    model = micro()
    for wrong in (-1, 2.5, "10"):
        with pytest.raises(ValueError, match="num_classes must be an integer from 0 to 1,000,000"):
            model.reset_classifier(wrong)
    assert model.config == micro().config
    assert model(images()).shape == (2, 10)


# Training


def rates(**overrides) -> list[float]:
    with torch.device("meta"):
        model = create_model("volo_d1_224", drop_path_rate=0.17, **overrides)
    return [block.drop_path.rate for group in model.network if isinstance(group, nn.Sequential) for block in group]


def test_drop_path_grows_over_all_blocks_and_is_off_in_the_outlookers():
    assert rates() == pytest.approx([0, 0, 0, 0, *(0.01 * i for i in range(4, 18))])


def test_drop_path_reaches_the_outlookers_on_request():
    assert rates(drop_path_outlookers=True) == pytest.approx([0.01 * i for i in range(18)])


@pytest.mark.parametrize("option", ["drop_path_rate", "pos_drop_rate", "attn_drop_rate"])
def test_every_dropout_rate_acts_in_training_only(option):
    model = micro(**{option: 0.5})
    assert torch.equal(model(images()), model(images()))
    model.train()
    assert not torch.equal(model(images()), model(images()))
    plain = micro().train()
    assert torch.equal(plain(images()), plain(images()))


def test_gradients_reach_every_parameter_through_both_heads():
    model = micro().train()
    only_cls = ("cls_token", "post_network", "head.")
    for field, not_reached in [("cls", ("aux_head",)), ("tokens", only_cls)]:
        model.zero_grad()
        logits = getattr(model.forward_head(model.forward_features(images(4))), field)
        (logits * torch.randn_like(logits)).sum().backward()
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and bool((parameter.grad != 0).any())
            assert reached != name.startswith(not_reached), f"{name} from the {field} logits"


def test_a_few_steps_overfit_a_batch():
    torch.manual_seed(0)
    model, target = micro().train(), torch.arange(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images(8)), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_bfloat16_autocast_stays_close(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(images())
    assert low.dtype == torch.bfloat16
    full = model(images())
    assert (low.float() - full).abs().max() < 0.05 * full.abs().max()


# Saving, compiling, exporting


def test_a_saved_state_gives_the_same_logits(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    fresh = VOLO(model.config).eval()
    assert not torch.equal(fresh(images()), model(images()))
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(fresh(images()), model(images()))


def test_compiles_as_one_graph_with_gradients():
    model = micro()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, actual = model(images()), compiled(images())
    assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    got = torch.autograd.grad(actual.square().sum(), list(model.parameters()))
    assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_exports_with_any_batch(model):
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images(3),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 2, 5):
        assert_close(program(images(size)), model(images(size)), atol=1e-5, rtol=1e-5)


def test_importing_the_models_loads_no_training_library():
    code = "import sys, volo.models; print([m for m in ('timm', 'pytorch_lightning', 'lightning') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
