"""The same weights give timm's VOLO and ours the same logits, and each loads the other's state dict."""

from itertools import accumulate

import pytest
import timm
import torch
from peers import randomize, timm_from_config
from timm.models.volo import VOLO as TimmVOLO
from torch import nn
from torch.testing import assert_close

from volo.models import VARIANTS, VOLO, create_model

PAPER = [name for name in VARIANTS if timm.is_model(name)]
#: timm's VOLO takes no other patch sizes.
OWN = [name for name, config in VARIANTS.items() if name not in PAPER and config.patch_size in (4, 8, 16)]


def timm_model(name: str) -> TimmVOLO:
    return timm.create_model(name) if name in PAPER else timm_from_config(VARIANTS[name])


def pair(name: str) -> tuple[VOLO, TimmVOLO]:
    """Return our model and timm's with the same random weights."""
    torch.manual_seed(0)
    ours = randomize(create_model(name)).eval()
    with torch.device("meta"):
        theirs = timm_model(name).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs


def images(model: VOLO, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, *model.config.img_size, generator=torch.Generator().manual_seed(1))


def assert_same_logits(name: str, batch: int) -> None:
    ours, theirs = pair(name)
    x = images(ours, batch)
    with torch.no_grad():
        expected, actual = theirs(x), ours(x)
    assert expected.std() > 0.1  # the bound below means something
    assert_close(actual, expected, atol=2e-5, rtol=0)


def test_every_published_size_has_a_counterpart_in_timm():
    assert set(timm.list_models("volo_*")) == set(PAPER)
    assert OWN == ["volo_micro_32", "volo_small_32", "volo_d0_224"]


def head_counts(model: nn.Module) -> list[int]:
    """Return the numbers of heads, which no weight shows except in the Outlookers."""
    return [module.num_heads for module in model.modules() if hasattr(module, "num_heads")]


@pytest.mark.parametrize("name", [*OWN, *PAPER])
def test_names_shapes_and_head_counts_are_timms_and_each_loads_the_other(name):
    with torch.device("meta"):
        ours, theirs = create_model(name), timm_model(name)
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert head_counts(ours) == head_counts(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)


@pytest.mark.parametrize("name", OWN[:2])
def test_own_small_sizes_agree_with_timms_class(name):
    assert_same_logits(name, batch=4)


@pytest.mark.parametrize("name", OWN[:2])
def test_weights_made_by_timm_give_timms_logits_here(name):
    torch.manual_seed(0)
    theirs, ours = timm_model(name).eval(), create_model(name).eval()
    nn.init.normal_(theirs.pos_embed, std=0.5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = images(ours, 4)
    assert_close(ours(x), theirs(x), atol=2e-5, rtol=0)


@pytest.mark.parametrize("norm", [False, True])
def test_the_maps_of_the_blocks_are_timms(norm):
    ours, theirs = pair("volo_small_32")
    x = images(ours, 2)
    ends = [end - 1 for end in accumulate(ours.config.depths)]
    expected = theirs.forward_intermediates(x, norm=norm, intermediates_only=True)
    for mine, other in zip(ours.get_intermediate_layers(x, ends, norm=norm), expected, strict=True):
        assert_close(mine, other, atol=1e-5 * other.abs().max().item(), rtol=0)


def test_d1_agrees_in_logits_and_in_every_gradient():
    ours, theirs = pair("volo_d1_224")
    x = images(ours, 2)
    expected, actual = theirs(x), ours(x)
    assert expected.std() > 0.1
    assert_close(actual, expected, atol=2e-5, rtol=0)
    expected.sum().backward()
    actual.sum().backward()
    assert_same_gradients(ours, theirs)


def assert_same_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert wanted[name].norm() > 0, name
        assert (parameter.grad - wanted[name]).norm() <= 1e-4 * wanted[name].norm(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ["volo_d0_224", *PAPER] if name != "volo_d1_224"])
def test_every_size_agrees_with_timm_at_its_native_resolution(name):
    assert_same_logits(name, batch=1)


def test_training_statistics_and_gradients_agree_in_training_mode():
    torch.manual_seed(0)
    ours = randomize(create_model("volo_micro_32")).train()
    theirs = timm_model("volo_micro_32").train()
    theirs.load_state_dict(ours.state_dict())
    x = images(ours, 8)
    for model in (ours, theirs):
        model(x).square().mean().backward()
    assert_same_gradients(ours, theirs)
    for (name, actual), expected in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert_close(actual, expected, msg=name)
