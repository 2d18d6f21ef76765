"""Outlook attention: every backend against a brute-force oracle, and the contract of the public function.

The battery runs over ``volo.ops.BACKENDS``, so a backend added there is tested here. A backend may refuse
some inputs; then asking for it by name must raise with its reason, and that is what is tested instead.
"""

import operator
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from volo.ops import BACKENDS, outlook_attention, slices
from volo.ops.backend import Backend, Geometry

BY_NAME = {backend.name: backend for backend in BACKENDS}
every_backend = pytest.mark.parametrize("name", BY_NAME)


@dataclass(frozen=True)
class Case:
    """The sizes of one call."""

    batch: int = 2
    height: int = 5
    width: int = 7
    heads: int = 2
    dim: int = 3
    kernel: int = 3
    stride: int = 2
    padding: int = 1

    def options(self, **more) -> dict:
        return {
            "kernel_size": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "scale": self.dim**-0.5,
        } | more

    def tensors(self, dtype: torch.dtype = torch.float32, seed: int = 0, spread: float = 3.0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        h, w = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (self.height, self.width))
        value = torch.randn(self.batch, self.height, self.width, self.heads * self.dim, generator=generator)
        logits = torch.randn(self.batch, h, w, self.heads, self.kernel**2, self.kernel**2, generator=generator)
        return value.to(dtype), (spread * logits).to(dtype)


def oracle(value: Tensor, logits: Tensor, case: Case) -> Tensor:
    """Plain loops over windows and their positions, in float64."""
    v, a = value.double().numpy(), logits.double().numpy()
    out = np.zeros_like(v)
    for b, y, x, n in np.ndindex(*a.shape[:4]):
        top, left = y * case.stride - case.padding, x * case.stride - case.padding
        places = [(top + i, left + j) for i in range(case.kernel) for j in range(case.kernel)]
        inside = [0 <= row < case.height and 0 <= col < case.width for row, col in places]
        head = slice(n * case.dim, (n + 1) * case.dim)
        window = np.zeros((case.kernel**2, case.dim))
        for j, (row, col) in enumerate(places):
            if inside[j]:
                window[j] = v[b, row, col, head]
        for i, (row, col) in enumerate(places):
            if inside[i]:
                weights = np.exp(case.dim**-0.5 * (a[b, y, x, n, i] - a[b, y, x, n, i].max()))
                out[b, row, col, head] += weights @ window / weights.sum()
    return torch.from_numpy(out)


def refused(name: str, value: Tensor, logits: Tensor, options: dict) -> bool:
    """Whether the backend refuses these inputs; if it does, asking for it by name raises with its reason."""
    reason = BY_NAME[name].refuse(value, logits, Geometry(**({"dropout_p": 0.0} | options)))
    if reason is None:
        return False
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        outlook_attention(value, logits, **options, backend=name)
    return True


def skip_if_refused(name: str, value: Tensor, logits: Tensor, options: dict) -> None:
    if refused(name, value, logits, options):
        pytest.skip(f"{name} refuses these inputs")


def with_gradients(name: str, value: Tensor, logits: Tensor, grad: Tensor, options: dict) -> list[Tensor]:
    """The output, and the gradients of value and logits."""
    value, logits = value.detach().requires_grad_(), logits.detach().requires_grad_()
    out = outlook_attention(value, logits, **options, backend=name)
    return [out.detach(), *torch.autograd.grad(out, (value, logits), grad)]


@st.composite
def cases(draw) -> Case:
    kernel = draw(st.sampled_from([1, 2, 3, 5, 7]))
    padding = draw(st.integers(0, kernel))
    sides = st.integers(max(1, kernel - 2 * padding), 9)
    return Case(
        batch=draw(st.integers(1, 2)),
        height=draw(sides),
        width=draw(sides),
        heads=draw(st.integers(1, 3)),
        dim=draw(st.sampled_from([1, 3, 4, 8, 17, 32])),
        kernel=kernel,
        stride=draw(st.integers(1, 4)),
        padding=padding,
    )


@every_backend
@settings(max_examples=60, deadline=None)
@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64]), seed=st.integers(0, 2**31))
def test_every_geometry_agrees_with_the_oracle(name, case, dtype, seed):
    value, logits = case.tensors(dtype, seed)
    if refused(name, value, logits, case.options()):
        return
    out = outlook_attention(value, logits, **case.options(), backend=name)
    assert out.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert_close(out.double(), oracle(value, logits, case), atol=tolerance, rtol=tolerance)


@settings(max_examples=60, deadline=None)
@given(case=cases(), band=st.integers(1, 4000), seed=st.integers(0, 2**31))
def test_a_map_mixed_by_bands_is_the_map_mixed_at_once(case, band, seed):
    value, logits = case.tensors(torch.float64, seed)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(slices, "BAND", band)
        out = outlook_attention(value, logits, **case.options(), backend="slices")
    assert_close(out, oracle(value, logits, case), atol=1e-12, rtol=1e-12)


def test_bands_keep_the_dtype_that_autocast_gives(monkeypatch):
    value, logits = Case().tensors()
    monkeypatch.setattr(slices, "BAND", 1)
    with torch.autocast("cpu", torch.bfloat16):
        whole = outlook_attention(value, logits, **Case().options(), backend="slices")
        with torch.no_grad():
            banded = outlook_attention(value, logits, **Case().options(), backend="slices")
    assert banded.dtype == whole.dtype == torch.bfloat16
    assert_close(banded, whole, atol=2**-7, rtol=2**-7)  # sums of four in another order


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest storage holds that an operator gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_bands_hold_no_window_of_the_whole_map(monkeypatch):
    case = Case(batch=1, height=64, width=64, heads=2, dim=64)
    value, logits = case.tensors()
    monkeypatch.setattr(slices, "BAND", value.numel() // 4)
    with torch.no_grad(), Largest() as largest:
        outlook_attention(value, logits, **case.options(), backend="slices")
    assert largest.numbers <= value.numel()
    with Largest() as largest:
        outlook_attention(value, logits, **case.options(), backend="reference")
    assert largest.numbers >= 9 / 4 * value.numel()


@every_backend
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (28, 28), (13, 31)])
def test_the_papers_window_agrees_with_the_oracle(name, height, width):
    case = Case(height=height, width=width, heads=3, dim=32)
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options())
    out = outlook_attention(value, logits, **case.options(), backend=name)
    assert_close(out.double(), oracle(value, logits, case), atol=1e-5, rtol=1e-5)


@every_backend
def test_huge_logits_choose_the_largest_and_stay_finite(name):
    case = Case()
    value, logits = case.tensors(spread=1e4)
    skip_if_refused(name, value, logits, case.options())
    out = outlook_attention(value, logits, **case.options(), backend=name)
    assert_close(out.double(), oracle(value, logits, case), atol=1e-4, rtol=1e-4)


@every_backend
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=1, height=3, width=4, dim=2),
        Case(batch=1, height=3, width=3, heads=1, dim=2, stride=1),
        Case(batch=1, height=5, width=5, heads=1, dim=1, kernel=2, stride=3, padding=0),
    ],
    ids=["stride 2", "stride 1", "gaps between windows"],
)
def test_gradcheck(name, case):
    value, logits = (tensor.requires_grad_() for tensor in case.tensors(torch.float64, spread=1.0))
    skip_if_refused(name, value, logits, case.options())
    run = lambda v, a: outlook_attention(v, a, **case.options(), backend=name)  # noqa: E731
    assert torch.autograd.gradcheck(run, (value, logits))


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "case", [Case(height=14, width=13, heads=4, dim=32), Case(height=9, width=9, kernel=5, padding=2)]
)
def test_errors_are_at_most_twice_those_of_the_reference(name, dtype, case):
    value, logits = case.tensors(dtype)
    skip_if_refused(name, value, logits, case.options())
    grad = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    truth = with_gradients("reference", value.double(), logits.double(), grad.double(), case.options())
    expected = with_gradients("reference", value, logits, grad, case.options())
    actual = with_gradients(name, value, logits, grad, case.options())
    for what, exact, theirs, ours in zip(["output", "d value", "d logits"], truth, expected, actual, strict=True):
        assert ours.dtype == dtype
        allowed = 2 * (theirs.double() - exact).abs().max()
        assert (ours.double() - exact).abs().max() <= allowed, what


@every_backend
def test_strided_inputs_and_gradients_give_what_contiguous_ones_give(name):
    case = Case(dim=4)
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options())
    grad = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    expected = with_gradients(name, value, logits, grad, case.options())

    channels_first = value.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    every_other = torch.stack([logits, torch.full_like(logits, torch.nan)], dim=-1).flatten(-2)[..., ::2]
    grad_first = grad.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not any(tensor.is_contiguous() for tensor in (channels_first, every_other, grad_first))
    assert_close(with_gradients(name, channels_first, every_other, grad_first, case.options()), expected)

    expanded = torch.ones(()).expand(value.shape)
    expected = with_gradients(name, value, logits, expanded.contiguous(), case.options())
    assert_close(with_gradients(name, value, logits, expanded, case.options()), expected)


@every_backend
def test_an_empty_batch_runs_forward_and_backward(name):
    case = Case(batch=0)
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options())
    out, d_value, d_logits = with_gradients(name, value, logits, torch.zeros_like(value), case.options())
    assert out.shape == d_value.shape == value.shape
    assert d_logits.shape == logits.shape


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_stays_close_to_full_precision(name, dtype):
    case = Case(dim=16)
    value, logits = case.tensors(dtype)
    skip_if_refused(name, value, logits, case.options())
    exact = with_gradients("reference", value.double(), logits.double(), value.double(), case.options())
    value, logits = value.requires_grad_(), logits.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = outlook_attention(value, logits, **case.options(), backend=name)
    gradients = torch.autograd.grad(out, (value, logits), value.detach().to(out.dtype))
    for actual, wanted in zip([out, *gradients], exact, strict=True):
        assert_close(actual.double(), wanted, atol=0.02 * wanted.abs().max().item(), rtol=0.02)
    assert [gradient.dtype for gradient in gradients] == [dtype, dtype]


@every_backend
def test_compiles_as_one_graph(name):
    case = Case()
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options())
    run = lambda v, a: outlook_attention(v, a, **case.options(), backend=name)  # noqa: E731
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    inputs = [tensor.requires_grad_() for tensor in (value, logits)]
    results = []
    for function in (run, compiled):
        out = function(*inputs)
        results.append([out, *torch.autograd.grad(out, inputs, value.detach())])
    assert_close(results[1], results[0])


class Op(torch.nn.Module):
    def __init__(self, name: str, options: dict) -> None:
        super().__init__()
        self.name, self.options = name, options

    def forward(self, value: Tensor, logits: Tensor) -> Tensor:
        return outlook_attention(value, logits, **self.options, backend=self.name)


@every_backend
def test_exports(name):
    case = Case()
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options())
    op = Op(name, case.options())
    program = torch.export.export(op, (value, logits))
    assert_close(program.module()(value, logits), op(value, logits))


def test_slices_export_without_im2col_or_scatter():
    case = Case()
    program = torch.export.export(Op("slices", case.options()), case.tensors())
    called = {node.target for node in program.graph.nodes if node.op == "call_function"} - {operator.getitem}
    operators = {str(target) for target in called}
    assert "aten.matmul.default" in operators
    assert all(name.startswith("aten.") for name in operators)
    assert not [name for name in operators if re.search("im2col|col2im|scatter|index_put", name)]


@every_backend
def test_dropout_drops_whole_weights_and_rescales_the_rest(name):
    case = Case(batch=1, height=40, width=50, heads=1, dim=1, kernel=1, stride=1, padding=0)
    value, logits = torch.ones(1, 40, 50, 1), torch.zeros(1, 40, 50, 1, 1, 1)
    options = case.options(dropout_p=0.25)
    skip_if_refused(name, value, logits, options)
    torch.manual_seed(0)
    out = outlook_attention(value, logits, **options, backend=name)  # the one weight of every window is 1
    kept = out != 0
    assert_close(out[kept], torch.full_like(out[kept], 1 / 0.75))
    assert 0.70 < kept.float().mean() < 0.80


@every_backend
def test_dropout_leaves_the_mean_unchanged(name):
    case, draws = Case(batch=1, height=3, width=4), 4000
    value, logits = case.tensors()
    many = [tensor.expand(draws, *tensor.shape[1:]) for tensor in (value, logits)]
    options = case.options(dropout_p=0.4)
    skip_if_refused(name, *many, options)
    torch.manual_seed(0)
    out = outlook_attention(*many, **options, backend=name)
    error = (out.mean(0) - oracle(value, logits, case)[0]).abs()
    assert (out.std(0) > 0).all()
    assert (error < 5 * out.std(0) / draws**0.5).all()


@every_backend
def test_dropout_that_drops_nothing_changes_nothing(name):
    case = Case()
    value, logits = case.tensors()
    skip_if_refused(name, value, logits, case.options(dropout_p=1e-12))
    expected = outlook_attention(value, logits, **case.options(), backend=name)
    assert_close(outlook_attention(value, logits, **case.options(dropout_p=1e-12), backend=name), expected)


def test_without_a_name_the_result_is_that_of_the_first_backend_that_can_run():
    case = Case()
    value, logits = case.tensors()
    first = next(name for name in BY_NAME if not refused(name, value, logits, case.options()))
    expected = outlook_attention(value, logits, **case.options(), backend=first)
    assert_close(outlook_attention(value, logits, **case.options()), expected, atol=0, rtol=0)


VALUE, LOGITS = Case().tensors()
ERRORS = {
    "kernel 0": ({"kernel_size": 0}, r"kernel_size >= 1.*not 0, 2 and 1"),
    "stride 0": ({"stride": 0}, r"stride >= 1.*not 3, 0 and 1"),
    "negative padding": ({"padding": -1}, r"padding >= 0.*not 3, 2 and -1"),
    "dropout 1": ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\), not 1.0"),
    "negative dropout": ({"dropout_p": -0.1}, r"dropout_p must lie in \[0, 1\), not -0.1"),
    "value of 3 dimensions": ({"value": VALUE[0]}, r"value \(B, H, W, C\).*not \(5, 7, 6\)"),
    "logits of 5 dimensions": ({"logits": LOGITS[0]}, r"logits \(B, h, w, N, K², K²\).*\(3, 4, 2, 9, 9\)"),
    "two dtypes": ({"logits": LOGITS.double()}, "one floating dtype, not torch.float32 and torch.float64"),
    "integers": ({"value": VALUE.int(), "logits": LOGITS.int()}, "one floating dtype, not torch.int32"),
    "two devices": ({"logits": LOGITS.to("meta")}, "on one device, not cpu and meta"),
    "channels not a multiple of heads": ({"value": VALUE[..., :5]}, "5 channels of value must be a multiple of the 2"),
    "no heads": ({"logits": LOGITS[:, :, :, :0]}, "multiple of the 0 heads"),
    "map smaller than the window": ({"value": VALUE[:, :2], "padding": 0}, "no window of 3 fits a map of 2x7"),
    "too few windows": ({"logits": LOGITS[:, :2]}, r"logits must be \(2, 3, 4, 2, 9, 9\)"),
    "another batch": ({"logits": LOGITS[:1]}, r"logits must be \(2, 3, 4, 2, 9, 9\).*not \(1, 3, 4, 2, 9, 9\)"),
    "another window": ({"kernel_size": 5, "padding": 2}, r"logits must be \(2, 3, 4, 2, 25, 25\)"),
    "unknown backend": (
        {"backend": "nonesuch"},
        "unknown outlook attention backend 'nonesuch'; available: .*reference",
    ),
}


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS)
def test_wrong_input_is_a_value_error_that_says_what_came(change, message):
    arguments = {"value": VALUE, "logits": LOGITS, **Case().options()} | change
    with pytest.raises(ValueError, match=message):
        outlook_attention(arguments.pop("value"), arguments.pop("logits"), **arguments)


def test_a_backend_that_refuses_is_passed_over_but_raises_when_named(monkeypatch):
    def run(value, logits, geometry):
        raise AssertionError("a backend ran that had refused")

    refusing = Backend(name="picky", refuse=lambda value, logits, geometry: "it is Tuesday", run=run)
    monkeypatch.setattr("volo.ops.outlook.BACKENDS", (refusing, *BACKENDS))
    expected = oracle(VALUE, LOGITS, Case())
    assert_close(outlook_attention(VALUE, LOGITS, **Case().options()).double(), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(RuntimeError, match="'picky' cannot run here: it is Tuesday"):
        outlook_attention(VALUE, LOGITS, **Case().options(), backend="picky")
