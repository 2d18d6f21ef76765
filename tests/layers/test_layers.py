"""The layers, compared with independent implementations of their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from volo.layers import (
    Attention,
    ClassAttention,
    ClassBlock,
    Downsample,
    DropPath,
    OutlookAttention,
    Outlooker,
    PatchEmbed,
    Transformer,
    resize_position_embedding,
)
from volo.layers.attention import FEW, attend


def randomized(module: nn.Module) -> nn.Module:
    """Return the module in float64 and evaluation mode, with weights so large that every part changes the output."""
    torch.manual_seed(0)
    for parameter in module.double().eval().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (3, 4), (7, 3)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 6), (7, 5)])
def test_outlook_attention_is_linear_unfold_softmax_fold_linear(kernel, stride, height, width):
    heads, dim = 2, 6
    layer = randomized(OutlookAttention(dim, heads, kernel_size=kernel, stride=stride))
    x = random(2, height, width, dim)

    layout = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
    value = F.unfold((x @ layer.v.weight.T).permute(0, 3, 1, 2), **layout)  # B C·K² L
    value = value.unflatten(1, (heads, dim // heads, kernel**2))  # B N D K² L
    pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), stride, stride, ceil_mode=True)  # B C h w
    logits = F.conv2d(pooled, layer.attn.weight[:, :, None, None], layer.attn.bias).flatten(2)
    weights = (logits.unflatten(1, (heads, kernel**2, kernel**2)) / (dim // heads) ** 0.5).softmax(3)  # B N K² K² L
    mixed = torch.einsum("bnijl,bndjl->bndil", weights, value).flatten(1, 3)
    folded = F.fold(mixed, (height, width), **layout).permute(0, 2, 3, 1)

    assert_close(layer(x), folded @ layer.proj.weight.T + layer.proj.bias)


def test_outlook_attention_uses_the_selected_backend():
    layer = randomized(OutlookAttention(4, 1))
    x = random(1, 4, 4, 4)
    expected = layer(x)
    layer.backend = "reference"
    assert_close(layer(x), expected)
    layer.backend = "nonesuch"
    with pytest.raises(ValueError, match="nonesuch"):
        layer(x)


def test_outlook_attention_drops_weights_in_training_only():
    layer = randomized(OutlookAttention(4, 1, attn_drop=0.5))
    x = random(1, 4, 4, 4)
    assert_close(layer(x), layer(x), atol=0, rtol=0)
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(("arguments", "message"), [((5, 2), "multiple"), ((4, 2, 4), "odd")])
def test_outlook_attention_rejects_invalid_sizes(arguments, message):
    dim, heads, *kernel = arguments
    with pytest.raises(ValueError, match=message):
        OutlookAttention(dim, heads, **({"kernel_size": kernel[0]} if kernel else {}))


def test_attention_is_softmax_of_scaled_products():
    heads, dim, length = 3, 12, 6
    layer = randomized(Attention(dim, heads))
    x = random(2, 2, 3, dim)
    qkv = x @ layer.qkv.weight.T
    q, k, v = (part.reshape(2, length, heads, -1) for part in qkv.chunk(3, dim=-1))
    weights = (torch.einsum("bqnd,bknd->bnqk", q, k) / (dim // heads) ** 0.5).softmax(-1)
    mixed = torch.einsum("bnqk,bknd->bqnd", weights, v).reshape(x.shape)
    assert_close(layer(x), mixed @ layer.proj.weight.T + layer.proj.bias)


def test_class_attention_queries_with_the_first_token():
    heads, dim = 3, 12
    layer = randomized(ClassAttention(dim, heads))
    x = random(2, 5, dim)
    k, v = (part.reshape(2, 5, heads, -1) for part in layer.kv(x).chunk(2, dim=-1))
    q = layer.q(x[:, 0]).reshape(2, heads, -1)
    weights = (torch.einsum("bnd,bknd->bnk", q, k) / (dim // heads) ** 0.5).softmax(-1)
    mixed = torch.einsum("bnk,bknd->bnd", weights, v).reshape(2, 1, dim)
    assert_close(layer(x), mixed @ layer.proj.weight.T + layer.proj.bias)


def test_class_block_updates_the_class_token_from_all_tokens_and_does_not_change_them():
    block = randomized(ClassBlock(8, 2, mlp_ratio=3))
    cls, tokens = random(2, 1, 8), random(2, 5, 8, seed=2)
    before = tokens.clone()
    out = block(cls, tokens)
    middle = cls + block.attn(F.layer_norm(torch.cat([cls, tokens], 1), (8,), block.norm1.weight, block.norm1.bias))
    hidden = F.gelu(block.mlp.fc1(F.layer_norm(middle, (8,), block.norm2.weight, block.norm2.bias)))
    assert_close(out, middle + block.mlp.fc2(hidden))
    assert torch.equal(tokens, before)
    for i in range(5):
        changed = tokens.clone()
        changed[:, i] += random(8, seed=3)
        assert not torch.allclose(block(cls, changed), out)


@pytest.mark.parametrize("kind", [Outlooker, Transformer])
def test_blocks_are_two_residual_branches_on_normalized_input(kind):
    block = randomized(kind(8, 2, mlp_ratio=3))
    x = random(2, 4, 3, 8)
    middle = x + block.attn(F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias))
    assert_close(block(x), middle + block.mlp(F.layer_norm(middle, (8,), block.norm2.weight, block.norm2.bias)))


@pytest.mark.parametrize("kind", [Outlooker, Transformer])
def test_drop_path_of_a_block_acts_on_both_branches_in_training_only(kind):
    block = randomized(kind(8, 2, mlp_ratio=3, drop_path=0.999))
    x = random(4, 2, 2, 8)
    assert not torch.isclose(block(x), x).all(dim=(1, 2, 3)).any()
    torch.manual_seed(0)
    assert torch.equal(block.train()(x), x)


def test_drop_path_is_the_identity_in_evaluation_and_at_rate_0():
    x = random(8, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x = torch.ones(20000, 2, 3)
    torch.manual_seed(0)
    out = DropPath(0.3).train()(x)
    per_sample = out[:, 0, 0]
    assert torch.equal(out, per_sample[:, None, None].expand_as(out))
    kept = per_sample != 0
    assert_close(per_sample[kept], torch.full_like(per_sample[kept], 1 / 0.7))
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)


def test_position_embedding_of_its_own_size_is_unchanged():
    embedding = random(1, 4, 6, 8)
    assert resize_position_embedding(embedding, (4, 6)) is embedding


@pytest.mark.parametrize("size", [(1, 1), (8, 6), (4, 3), (7, 11)])
def test_position_embedding_takes_any_size_and_keeps_rows_and_columns_apart(size):
    ramp = torch.linspace(-1, 1, 6)
    embedding = torch.stack([ramp[:4, None].expand(4, 6), ramp[None].expand(4, 6)], dim=-1)[None]
    resized = resize_position_embedding(embedding, size)
    assert resized.shape == (1, *size, 2)
    assert_close(resized[..., 0], resized[:, :, :1, 0].expand(1, *size))  # the first channel varies by row alone
    assert_close(resized[..., 1], resized[:, :1, :, 1].expand(1, *size))  # the second by column alone


def test_position_embedding_is_resized_by_cubic_convolution():
    embedding = random(1, 4, 4, 3)
    # Doubling puts position 3 at 1.25 of the old grid; these are the weights of its four neighbors at a = -0.75.
    weights = torch.tensor([-27 / 256, 225 / 256, 67 / 256, -9 / 256], dtype=torch.float64)
    expected = torch.einsum("i,j,ijc->c", weights, weights, embedding[0])
    assert_close(resize_position_embedding(embedding, (8, 8))[0, 3, 3], expected)


@pytest.mark.parametrize("patch_size", [2, 4, 8, 16])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 16), (46, 34)])
def test_patch_embed_gives_whole_patches_channels_last(patch_size, height, width):
    embed = PatchEmbed(3, 4, 6, patch_size).eval()
    assert embed(torch.zeros(2, 3, height, width)).shape == (2, height // patch_size, width // patch_size, 6)


def test_patch_embed_ignores_pixels_far_beyond_the_last_whole_patch():
    torch.manual_seed(0)
    embed = PatchEmbed(3, 4, 6, 16).eval()  # the stem reaches 6 pixels beyond a patch
    image = torch.randn(1, 3, 30, 30)
    changed = image.clone()
    changed[..., 22:, :] = changed[..., :, 22:] = 9.0
    assert embed(image).shape == (1, 1, 1, 6)
    assert_close(embed(changed), embed(image))
    changed[..., 0, 0] = 9.0
    assert not torch.allclose(embed(changed), embed(image))


def test_downsample_halves_the_map_and_drops_the_odd_row_and_column():
    layer = randomized(Downsample(3, 5))
    x = random(2, 5, 7, 3)
    out = layer(x)
    assert out.shape == (2, 2, 3, 5)
    corner = torch.einsum("bijc,ocij->bo", x[:, 2:4, 4:6], layer.proj.weight) + layer.proj.bias
    assert_close(out[:, 1, 2], corner)


@pytest.mark.parametrize("tokens", [16, FEW, FEW + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kernels_of_attention_give_the_same_gradients(tokens, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    weights = (exact[0] @ exact[1].mT / 8**0.5).softmax(dim=-1)
    expected = weights @ exact[2]
    actual = attend(q, k, v)
    actual.sum().backward()
    expected.sum().backward()
    bound = 3e-5 if dtype is torch.float32 else 3e-2
    assert_close(actual.double(), expected, rtol=bound, atol=bound)
    for x, y in zip((q, k, v), exact, strict=True):
        assert_close(x.grad.double(), y.grad, rtol=bound, atol=bound * max(1.0, y.grad.abs().max().item()))
