import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from volo import Predictor, create_model, optimize_for_inference
from volo.fused.layers import can_prepack
from volo.models import create_segmenter, save_model
from volo.models.segmentation import DECODERS


def trained(name, **overrides):
    """A model whose every weight and statistic is unlike what it begins with, so that no fold can hide in zeros."""
    torch.manual_seed(0)
    model = create_model(name, **overrides)
    shake(model)
    with torch.no_grad():
        model.cls_token.normal_()
    return model.eval()


def shake(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.5)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.normal_(1.0, 0.3)
                module.bias.normal_(std=0.3)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.normal_(std=0.1)


def segmenter(**options):
    torch.manual_seed(0)
    model = create_segmenter("volo_micro_32", **{"num_classes": 4, "decoder_channels": 16, **options})
    shake(model)
    return model.eval()


def difference(first, second):
    return (first - second).abs().max().item()


@pytest.fixture(scope="module")
def micro():
    return trained("volo_micro_32")


@pytest.fixture(scope="module")
def fast(micro):
    return optimize_for_inference(micro)


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (33, 47), (17, 64)])
@pytest.mark.parametrize("batch", [1, 3])
def test_equal_logits_at_any_size(micro, fast, size, batch):
    images = torch.randn(batch, 3, *size)
    with torch.inference_mode():
        assert difference(fast(images), micro(images)) <= 1e-5


@pytest.mark.parametrize("overrides", [{}, {"in_chans": 1, "num_classes": 3}, {"outlook_stride": 1}])
def test_equal_logits_of_other_designs(overrides):
    model = trained("volo_small_32", **overrides)
    images = torch.randn(2, model.config.in_chans, 32, 32)
    with torch.inference_mode():
        assert difference(optimize_for_inference(model)(images), model(images)) <= 1e-5


def test_equal_logits_of_a_published_size():
    model, images = trained("volo_d1_224"), torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert difference(optimize_for_inference(model)(images), model(images)) <= 1e-5


def spoiled(model, name, value):
    """A copy whose first value of a tensor is replaced."""
    copied = copy.deepcopy(model)
    copied.state_dict()[name].view(-1)[0] = value
    return copied


def places(model, prefix=""):
    return [name for name, tensor in model.state_dict().items() if name.startswith(prefix) and tensor.ndim]


def assert_not_finite_where_the_model_is_not(model, name, value, images):
    """What is not finite stays so: oneDNN's ReLU would turn NaN into 0."""
    bad = spoiled(model, name, value)
    expected, found = bad(images).isfinite().all(), optimize_for_inference(bad)(images).isfinite().all()
    assert expected or not found, f"{name} = {value}"


@pytest.fixture(scope="module")
def tiny():
    return trained("volo_micro_32", dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2), class_depth=1, num_classes=2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_of_the_stem_that_is_not_finite_is_not_hidden(tiny, value):
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for name in places(tiny, "patch_embed."):
            assert_not_finite_where_the_model_is_not(tiny, name, value, images)


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_no_weight_that_is_not_finite_is_hidden(tiny, value):
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for name in places(tiny):
            assert_not_finite_where_the_model_is_not(tiny, name, value, images)


def test_a_pixel_that_is_not_a_number_is_not_hidden(micro, fast):
    images = torch.randn(2, 3, 32, 32)
    images[1, 0, 5, 7] = torch.nan
    with torch.inference_mode():
        assert micro(images).isnan().all(1).tolist() == fast(images).isnan().all(1).tolist() == [False, True]


def test_every_method_gives_what_it_gave(micro, fast):
    images = torch.randn(2, 3, 32, 48)
    features, expected = fast.forward_features(images), micro.forward_features(images)
    assert difference(features.cls, expected.cls) <= 1e-4
    assert difference(features.tokens, expected.tokens) <= 1e-4
    assert difference(fast.forward_head(features).tokens, micro.forward_head(expected).tokens) <= 1e-5
    for mine, other in zip(fast.forward_feature_maps(images), micro.forward_feature_maps(images), strict=True):
        assert mine.shape == other.shape
        assert difference(mine, other) <= 1e-4
    for mine, other in zip(
        fast.get_intermediate_layers(images, 5), micro.get_intermediate_layers(images, 5), strict=True
    ):
        assert difference(mine, other) <= 1e-4
    with pytest.raises(RuntimeError, match="cannot have other heads"):
        fast.reset_classifier(2)
    assert fast.config == micro.config
    assert fast.feature_channels == micro.feature_channels


def test_the_model_is_left_alone_and_shares_nothing():
    model = trained("volo_micro_32").train()
    before = copy.deepcopy(model.state_dict())
    fast = optimize_for_inference(model)
    assert not fast.training
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    images = torch.randn(1, 3, 32, 32)
    expected = fast(images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert difference(model.eval()(images), expected) <= 1e-5
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    assert torch.equal(fast(images), expected)


def test_without_packed_weights_the_results_are_the_same(micro, monkeypatch):
    monkeypatch.setattr("volo.fused.optimize.can_prepack", lambda weight: False)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert difference(optimize_for_inference(micro)(images), micro(images)) <= 1e-5


def test_other_dtypes_run(micro):
    images = torch.randn(2, 3, 32, 32)
    double = copy.deepcopy(micro).double()
    assert not can_prepack(double.cls_token)
    assert difference(optimize_for_inference(double)(images.double()), double(images.double())) <= 1e-12
    half = copy.deepcopy(micro).bfloat16()
    logits = optimize_for_inference(half)(images.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert difference(logits.float(), micro(images)) <= 0.2


def test_on_another_device_nothing_is_packed(micro):
    fast = optimize_for_inference(copy.deepcopy(micro).to("meta"))
    assert fast(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, micro.config.num_classes)


def test_it_keeps_its_dtype_under_autocast_and_makes_no_graph(micro, fast):
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = fast(images)
        features = fast.forward_features(images)
    assert logits.dtype == features.tokens.dtype == torch.float32
    assert not logits.requires_grad
    assert not features.tokens.requires_grad
    assert difference(logits, micro(images)) <= 1e-5


def test_copies_and_pickles(fast):
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(copy.deepcopy(fast)(images), fast(images))
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images), fast(images))


def test_what_it_cannot_do_is_an_error(fast):
    with pytest.raises(ValueError, match="already optimized for inference"):
        optimize_for_inference(fast)
    with pytest.raises(ValueError, match=r"takes a volo.VOLO or a segmentation model, not Linear"):
        optimize_for_inference(nn.Linear(1, 1))
    for action in (fast.train, fast.state_dict, fast.double, lambda: fast.to("cpu")):
        with pytest.raises(RuntimeError, match="use the model that it was made from"):
            action()
    assert fast.eval() is fast
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\)"):
        fast(torch.randn(1, 1, 32, 32))


def test_a_model_without_heads():
    model = trained("volo_micro_32", num_classes=0)
    fast, images = optimize_for_inference(model), torch.randn(1, 3, 32, 32)
    with pytest.raises(RuntimeError, match="num_classes=0"):
        fast(images)
    assert difference(fast.forward_features(images).cls, model.forward_features(images).cls) <= 1e-4


def test_the_predictor_uses_it(tmp_path):
    model = trained("volo_micro_32", num_classes=3)
    preprocessing = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    weights = model.state_dict()
    save_model(tmp_path, model.config, weights, class_names=("a", "b", "c"), preprocessing=preprocessing)
    predictor = Predictor(tmp_path, device="cpu")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
    with torch.inference_mode():
        expected = predictor.model(predictor.preprocessing.normalize(pixels)).softmax(dim=-1)
    assert difference(predictor.probabilities(pixels), expected) <= 1e-5
    assert predictor.model.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_segmentation_model_has_equal_logits(decoder):
    model = segmenter(decoder=decoder, decoder_channels=16 if DECODERS[decoder] else None)
    fast = optimize_for_inference(model)
    for images in (torch.randn(2, 3, 64, 96), torch.randn(1, 3, 40, 57)):
        with torch.inference_mode():
            expected, aux = model.forward_with_aux(images)
            assert difference(fast(images), expected) <= 1e-4 * expected.abs().max().item()
            assert difference(fast.forward_with_aux(images).aux, aux) <= 1e-4 * aux.abs().max().item()


def test_an_optimized_segmentation_model_shares_nothing_and_refuses_the_same():
    model = segmenter(num_classes=3).train()
    before = copy.deepcopy(model.state_dict())
    fast, images = optimize_for_inference(model), torch.randn(1, 3, 64, 64, requires_grad=True)
    assert model.training
    assert not any(module.training for module in fast.modules())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = fast(images)
    assert (expected.dtype, expected.requires_grad) == (torch.float32, False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    for same in (fast, copy.deepcopy(fast), torch.load(file, weights_only=False)):
        assert torch.equal(same(images), expected)
    with pytest.raises(ValueError, match="already optimized for inference"):
        optimize_for_inference(fast)
    for action in (fast.train, fast.state_dict, fast.double):
        with pytest.raises(RuntimeError, match="use the model that it was made from"):
            action()
    assert (fast.num_classes, fast.config) == (3, model.config)


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("default")
def test_a_segmentation_model_compiled():
    model = segmenter()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(images)
        got = optimize_for_inference(model, compile=True)(images)
    assert difference(got, expected) <= 1e-4 * expected.abs().max().item()


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("default")
def test_compiled(micro):
    compiled = optimize_for_inference(micro, compile=True)
    for batch in (2, 1):
        images = torch.randn(batch, 3, 32, 32)
        assert difference(compiled(images), micro(images)) <= 1e-5
        with torch.inference_mode():
            assert difference(compiled(images), micro(images)) <= 1e-5
