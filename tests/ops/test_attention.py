"""Self-attention of the native library is PyTorch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volo.ops.attention import scaled_dot_product, self_attention
from volo.ops.native import library

LIBRARY = library.load()
native = pytest.mark.skipif(isinstance(LIBRARY, str), reason="the native library is not built")
SETS = () if isinstance(LIBRARY, str) else LIBRARY.instruction_sets


def error(result, qkv):
    return (result - scaled_dot_product(qkv.double())).abs().max()


@native
@pytest.mark.parametrize("instruction_set", SETS)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 120), st.integers(1, 3), st.sampled_from([16, 32, 48, 64])),
    spread=st.sampled_from([0.1, 1.0, 8.0]),
    threads=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_it_is_as_close_to_float64_as_pytorch(instruction_set, sizes, spread, threads):
    batch, tokens, heads, dim = sizes
    qkv = spread * torch.randn(batch, tokens, 3, heads, dim, generator=torch.Generator().manual_seed(tokens))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = LIBRARY.attention(qkv, instruction_set)
    finally:
        torch.set_num_threads(before)
    # Scores are rounded in another order: by their own size, and with it the weights of the values.
    q, k, v = qkv.unbind(2)
    largest = torch.einsum("bind,bjnd->bijn", q, k).abs().max() * dim**-0.5
    rounding = torch.finfo(torch.float32).eps * (1 + largest) * v.abs().max()
    assert error(result, qkv) <= 2 * error(scaled_dot_product(qkv), qkv) + rounding


@native
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_reaches_the_tokens_that_pytorch_lets_it_reach(strange):
    qkv = torch.randn(1, 20, 3, 2, 32, generator=torch.Generator().manual_seed(0))
    qkv[0, 7, 0, 1, 3] = strange  # a query: its own token and head alone
    expected = scaled_dot_product(qkv)
    assert torch.equal(LIBRARY.attention(qkv).isfinite(), expected.isfinite())
    assert not expected.isfinite().all()


@native
def test_a_key_far_from_all_others_takes_all_the_weight():
    qkv = torch.zeros(1, 5, 3, 1, 32)
    qkv[0, :, 0] = 100.0
    qkv[0, 2, 1] = 100.0
    qkv[0, :, 2] = torch.arange(5.0)[:, None, None]
    assert torch.equal(LIBRARY.attention(qkv), torch.full((1, 5, 32), 2.0))


@pytest.mark.parametrize(
    "qkv", [torch.randn(2, 9, 3, 2, 20), torch.randn(1, 9, 3, 2, 32).double(), torch.randn(1, 1100, 3, 1, 16)]
)
def test_what_the_library_does_not_take_goes_to_pytorch(qkv):
    torch.testing.assert_close(self_attention(qkv), scaled_dot_product(qkv))


def test_a_part_of_a_larger_tensor_is_taken_as_it_is():
    whole = torch.randn(2, 30, 3, 2, 32, generator=torch.Generator().manual_seed(0))
    assert error(self_attention(whole[:, 5:25]), whole[:, 5:25]) < 1e-5
    assert self_attention(whole[:0]).shape == (0, 30, 64)
