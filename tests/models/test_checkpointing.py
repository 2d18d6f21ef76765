import copy

import torch
from torch.autograd.graph import saved_tensors_hooks

from volo import create_model
from volo.training.config import ModelConfig


def backward(model, images):
    """Return the gradients of a loss, and the bytes of the tensors that autograd stored for them."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)  # of drop path
    model.zero_grad()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(images).square().mean()
        held = sum(kept.values())
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}, held


def test_equal_gradients_from_less_memory():
    model, images = create_model("volo_small_32", drop_path_rate=0.2), torch.randn(4, 3, 32, 32)
    plain, kept = backward(copy.deepcopy(model), images)
    model.set_grad_checkpointing()
    assert model.grad_checkpointing
    checkpointed, kept_less = backward(model, images)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-5, atol=1e-7)
    assert kept_less < 0.5 * kept
    model.set_grad_checkpointing(False)
    assert backward(model, images)[1] == kept


def test_checkpointing_is_not_part_of_the_architecture():
    assert "grad_checkpointing" not in ModelConfig(grad_checkpointing=True).overrides()
