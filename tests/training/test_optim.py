import math

import pytest
import torch

import volo
from volo.training.config import OptimConfig
from volo.training.optim import configure_optimizers, learning_rate


@pytest.fixture(scope="module")
def model():
    return volo.create_model("volo_micro_32")


def rates(model, config, *, epochs, steps):
    """The learning rate of every optimizer step."""
    parts = configure_optimizers(model, config, epochs=epochs, steps_per_epoch=steps, global_batch=64)
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


def test_the_rate_warms_up_linearly_follows_a_cosine_and_cools_down(model):
    config = OptimConfig(lr=1e-3, warmup_epochs=2, cooldown_epochs=3, warmup_lr=1e-6, min_lr=1e-5)
    used = rates(model, config, epochs=13, steps=10)
    assert used[0] == pytest.approx(1e-6)
    assert used[10] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    for step in (20, 50, 99):
        assert used[step] == pytest.approx(1e-5 + (1e-3 - 1e-5) / 2 * (1 + math.cos(math.pi * step / 100)))
    assert used[100:] == pytest.approx([1e-5] * 30)


def test_the_rate_is_linear_in_the_global_batch_where_a_base_is_given():
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
