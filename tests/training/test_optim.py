import math
from dataclasses import replace

import pytest
import torch

import volo
from volo.models import create_model, create_segmenter
from volo.training.config import OptimConfig
from volo.training.optim import configure_optimizers, freeze_backbone, layer_of, learning_rate, parameter_groups


@pytest.fixture(scope="module")
def model():
    return volo.create_model("volo_micro_32")


def rates(model, config, *, epochs, steps, global_batch=64):
    """Return the learning rate of every optimizer step."""
    parts = configure_optimizers(model, config, epochs=epochs, steps_per_epoch=steps, global_batch=global_batch)
    scheduler, used = parts["lr_scheduler"]["scheduler"], []
    for step in range(epochs * steps):
        used.append(parts["optimizer"].param_groups[0]["lr"])
        scheduler.step_update(step + 1)
    return used


def test_only_matrices_decay(model):
    parts = configure_optimizers(model, OptimConfig(), epochs=10, steps_per_epoch=5, global_batch=64)
    decay = {id(p): group["weight_decay"] for group in parts["optimizer"].param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        expected = 0.0 if parameter.ndim == 1 or name in ("pos_embed", "cls_token") else 0.05
        assert decay[id(parameter)] == expected, name


def ratio(matrix):
    """Return the ratio of the largest singular value to the eighth largest."""
    values = torch.linalg.svdvals(matrix)
    return values[0] / values[7]


def test_muon_updates_only_the_matrices_of_the_blocks():
    model = volo.create_model("volo_micro_32")
    config = OptimConfig(optimizer="muon", weight_decay=0.0, warmup_epochs=0.0)
    optimizer = configure_optimizers(model, config, epochs=2, steps_per_epoch=5, global_batch=64)["optimizer"]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logits = model.forward_head(model.forward_features(torch.randn(4, 3, 32, 32)))
    (logits.cls.square().mean() + logits.tokens.square().mean()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        step = (before[name] - parameter.detach()).flatten(1) if parameter.ndim > 1 else None
        if step is None or "head" in name or name in ("pos_embed", "cls_token"):
            moved = (before[name] - parameter.detach()).abs().max().item()
            assert moved == pytest.approx(1.9 * config.lr, rel=0.01), (
                name
            )  # the first step of Adam with Nesterov's look
        else:
            assert 0.0 < step.square().mean().sqrt() < 0.3 * config.lr, name
        if (
            name.startswith("network") and "mlp" in name and parameter.ndim > 1
        ):  # the strongest directions go equally far, unlike the gradient's
            assert ratio(step) < 1.5 < ratio(parameter.grad), name


def test_the_rate_warms_up_linearly_follows_a_cosine_and_cools_down(model):
    config = OptimConfig(lr=1e-3, warmup_epochs=2, cooldown_epochs=3, warmup_lr=1e-6, min_lr=1e-5)
    used = rates(model, config, epochs=13, steps=10)
    assert used[0] == pytest.approx(1e-6)
    assert used[10] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    for step in (20, 50, 99):
        assert used[step] == pytest.approx(1e-5 + (1e-3 - 1e-5) / 2 * (1 + math.cos(math.pi * step / 100)))
    assert used[100:] == pytest.approx([1e-5] * 30)


def test_the_rate_is_linear_in_the_global_batch_if_lr_batch_is_set():
    assert learning_rate(OptimConfig(lr=1.6e-3, lr_batch=1024), 256) == pytest.approx(4e-4)
    assert learning_rate(OptimConfig(lr=1.6e-3), 256) == 1.6e-3


def test_a_step_moves_every_parameter(model):
    parts = configure_optimizers(model, OptimConfig(), epochs=10, steps_per_epoch=5, global_batch=64)
    before = [p.detach().clone() for p in model.parameters()]
    logits = model.forward_head(model.forward_features(torch.randn(2, 3, 32, 32)))
    (logits.cls.logsumexp(-1).sum() + logits.tokens.logsumexp(-1).sum()).backward()
    for group in parts["optimizer"].param_groups:
        group["lr"] = 1e-2
    parts["optimizer"].step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_layers_follow_the_depth_of_the_network():
    config = volo.create_model("volo_micro_32", depths=(2, 1, 1, 1), class_depth=2).config
    table = {
        "patch_embed.conv.0.weight": 0,
        "network.0.0.attn.v.weight": 1,
        "network.0.1.mlp.fc2.bias": 2,
        "network.1.proj.weight": 3,
        "pos_embed": 3,
        "network.2.0.attn.qkv.weight": 4,
        "network.3.0.norm1.weight": 5,
        "network.4.0.attn.qkv.weight": 6,
        "cls_token": 7,
        "post_network.0.attn.kv.weight": 7,
        "post_network.1.mlp.fc1.weight": 8,
        "norm.weight": 9,
        "head.weight": 9,
        "aux_head.bias": 9,
    }
    assert {name: layer_of(name, config) for name in table} == table


@pytest.mark.parametrize("name", ["volo_d1_224", "volo_d5_224", "volo_small_32"])
def test_every_block_is_a_layer_and_no_layer_is_empty(name):
    with torch.device("meta"):
        network = volo.create_model(name)
    layers = {parameter: layer_of(parameter, network.config) for parameter, _ in network.named_parameters()}
    blocks = sum(network.config.depths) + network.config.class_depth
    assert set(layers.values()) == set(range(1 + blocks + 1 + 1))  # stem, downsampling, heads
    block = {n.rsplit(".", 3)[0]: layer for n, layer in layers.items() if n.endswith("mlp.fc1.weight")}
    assert list(block.values()) == sorted(set(block.values()))
    assert len(block) == blocks


def test_layer_decay_slows_the_lower_layers_from_the_first_step_on(model):
    for warmup in (0.0, 2.0):
        config = OptimConfig(lr=1e-3, layer_decay=0.5, warmup_epochs=warmup, warmup_lr=1e-4)
        parts = configure_optimizers(model, config, epochs=10, steps_per_epoch=5, global_batch=64)
        rate = {id(p): group["lr"] for group in parts["optimizer"].param_groups for p in group["params"]}
        top = 1e-3 if not warmup else 1e-4
        assert rate[id(model.head.weight)] == pytest.approx(top)
        assert rate[id(model.post_network[1].norm1.weight)] == pytest.approx(top / 2)
        assert rate[id(model.patch_embed.conv[0].weight)] == pytest.approx(top / 2**9)
        assert parts["optimizer"].param_groups[0]["lr"] == pytest.approx(top)  # what metrics.csv shows


def test_with_interval_epoch_the_rate_changes_only_between_epochs(model):
    config = OptimConfig(lr=1e-3, warmup_epochs=2, cooldown_epochs=3, min_lr=1e-5)
    stepwise = rates(model, config, epochs=13, steps=10)
    epochwise = rates(model, replace(config, interval="epoch"), epochs=13, steps=10)
    assert epochwise == [stepwise[10 * epoch] for epoch in range(13) for _ in range(10)]


def test_the_papers_curve(model):
    config = OptimConfig(
        lr=1.6e-3, lr_batch=1024, warmup_epochs=20, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=10, interval="epoch"
    )
    used = rates(model, config, epochs=310, steps=3, global_batch=1024)[::3]
    assert used[0] == pytest.approx(1e-6)
    assert used[19] == pytest.approx(1e-6 + 19 / 20 * (1.6e-3 - 1e-6))
    for epoch in (20, 155, 299):
        assert used[epoch] == pytest.approx(1e-5 + (1.6e-3 - 1e-5) / 2 * (1 + math.cos(math.pi * epoch / 300)))
    assert used[300:] == pytest.approx([1e-5] * 10)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_equal_global_batches_follow_the_same_curve_however_they_are_made_up(model, interval):
    """1 device accumulating 8 batches, 8 devices, and 2 nodes of 4: the same rate at every step."""
    config = OptimConfig(lr=1.6e-3, lr_batch=1024, warmup_epochs=1, interval=interval)
    curves = []
    for batch, accumulate, world in ((32, 8, 1), (32, 1, 8), (16, 2, 8)):
        images = 2048
        steps = math.ceil(images // world // batch / accumulate)
        curves.append(rates(model, config, epochs=4, steps=steps, global_batch=batch * accumulate * world))
    assert curves[0] == curves[1] == curves[2]
    double = rates(model, config, epochs=4, steps=8, global_batch=512)
    assert double == pytest.approx([2 * rate for rate in curves[0]])


def test_with_a_frozen_backbone_only_the_heads_train_and_batchnorm_is_fixed():
    network = volo.create_model("volo_micro_32", drop_path_rate=0.5)
    network.train()
    freeze_backbone(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parts = configure_optimizers(network, OptimConfig(), epochs=10, steps_per_epoch=5, global_batch=64)
    images = torch.randn(4, 3, 32, 32)
    features = network.forward_features(images)
    assert not features.tokens.requires_grad
    torch.testing.assert_close(features.cls, network.forward_features(images).cls)  # nothing is dropped
    logits = network.forward_head(features)
    (logits.cls.logsumexp(-1).sum() + logits.tokens.logsumexp(-1).sum()).backward()
    for group in parts["optimizer"].param_groups:
        group["lr"] = 1e-2
    parts["optimizer"].step()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"head.weight", "head.bias", "aux_head.weight", "aux_head.bias"}


def test_poly_warms_up_by_steps_and_decays_linearly():
    config = OptimConfig(schedule="poly", lr=6e-5, warmup_steps=4, warmup_lr=0.0, min_lr=0.0)
    model = create_model("volo_micro_32")
    configured = configure_optimizers(model, config, epochs=5, steps_per_epoch=4, global_batch=8)
    scheduler, group = configured["lr_scheduler"]["scheduler"], configured["optimizer"].param_groups[0]
    rates = [group["lr"]]
    for step in range(1, 21):
        scheduler.step_update(step)
        rates.append(group["lr"])
    assert rates[:4] == pytest.approx([6e-5 * step / 4 for step in range(4)])
    assert rates[4:] == pytest.approx([6e-5 * (1 - step / 20) for step in range(4, 21)])


def test_layers_of_a_segmentation_model_count_down_from_its_decoder():
    model = create_segmenter("volo_micro_32", num_classes=3, decoder_channels=8)
    groups = parameter_groups(model, OptimConfig(layer_decay=0.5))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] > 0 for group in groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(scale) == len(parameters)
    expected = {
        "head.1.weight": 1,
        "backbone.down.0.weight": 1,
        "backbone.volo.norm.weight": 1,
        "backbone.volo.network.4.0.norm1.weight": 0.5,
        "backbone.volo.network.3.0.norm1.weight": 0.25,
        "backbone.volo.pos_embed": 0.5**4,
    }
    assert {name: scale[id(parameters[name])] for name in expected} == expected
    assert not decays[id(parameters["backbone.volo.pos_embed"])]
    assert decays[id(parameters["head.1.weight"])]
