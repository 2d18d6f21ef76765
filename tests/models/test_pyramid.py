import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from volo.layers import resize_position_embedding
from volo.models import create_model
from volo.models.pyramid import Pyramid


def pyramid(**options):
    torch.manual_seed(0)
    return Pyramid(create_model("volo_micro_32", num_classes=0, img_size=64, **options))


@pytest.mark.parametrize(
    ("patch", "channels"), [(2, (128,) * 4), (4, (64, 128, 128, 128)), (8, (64, 64, 128, 128)), (16, (64, 64, 64, 128))]
)
def test_maps_have_four_strides_and_every_weight_learns(patch, channels):
    model = pyramid(patch_size=patch)
    maps = model(torch.randn(2, 3, 64, 96))
    assert model.channels == channels
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_the_two_maps_in_the_middle_are_volos_own_normalized():
    model = pyramid(patch_size=8).eval()
    images = torch.randn(1, 3, 64, 64)
    fine, coarse = model.volo.forward_feature_maps(images)
    _, eighth, sixteenth, _ = model(images)
    for ours, theirs, norm in ((eighth, fine, model.fine_norm), (sixteenth, coarse, model.volo.norm)):
        wanted = F.layer_norm(theirs.permute(0, 2, 3, 1), theirs.shape[1:2], norm.weight, norm.bias, norm.eps)
        assert_close(ours, wanted.permute(0, 3, 1, 2))


@pytest.mark.parametrize("patch", [6, 32])
def test_other_patch_sizes_are_refused(patch):
    with pytest.raises(ValueError, match=f"need a patch_size of 2, 4, 8 or 16, not {patch}"):
        pyramid(patch_size=patch)


def resized(model, size=(3, 5)):
    return resize_position_embedding(model.pos_embed, size)


def test_resized_position_embeddings_are_cached_for_each_size_until_they_change():
    model = create_model("volo_micro_32").eval()
    with torch.no_grad():
        first = model._positions((3, 5))
        assert model._positions((3, 5)) is first
        assert model._positions((5, 3)).shape == (1, 5, 3, 128)
        assert model._positions((3, 5)) is first
        model.pos_embed.mul_(2)
        assert_close(model._positions((3, 5)), resized(model))
        model.load_state_dict(create_model("volo_micro_32").state_dict())
        assert_close(model._positions((3, 5)), resized(model))
        assert model.double()._positions((3, 5)).dtype == torch.float64
        for side in range(100):
            model._positions((3, 6 + side))
        assert len(model._resized) <= 16
    model.load_state_dict(create_model("volo_micro_32").state_dict(), assign=True)
    with torch.inference_mode():
        assert_close(model._positions((3, 5)), resized(model))


def test_position_embeddings_of_another_size_learn():
    model = create_model("volo_micro_32")
    with torch.no_grad():
        model(torch.randn(2, 3, 48, 40))
    model(torch.randn(2, 3, 48, 40)).sum().backward()
    assert model.pos_embed.grad.any()
