"""The native backend, beyond the tests of all backends in test_outlook.py: every instruction set, equal bits for any
number of threads, forks, memory, and refused inputs.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import volo.ops.native
from volo.ops import outlook_attention
from volo.ops.backend import Geometry
from volo.ops.native import NATIVE, library
from volo.ops.reference import outlook_attention_reference

LIBRARY = library.load()
INSTRUCTION_SETS = () if isinstance(LIBRARY, str) else LIBRARY.instruction_sets
SOURCES = Path(volo.ops.native.__file__).parent
pytestmark = pytest.mark.skipif(isinstance(LIBRARY, str), reason=str(LIBRARY))

PAPER = Geometry(kernel_size=3, stride=2, padding=1, scale=32**-0.5, dropout_p=0.0)
SIZES = {  # geometry and the shape of value, with heads
    "paper": (PAPER, (2, 28, 26, 96), 3),
    "one head of 17": (PAPER, (1, 9, 12, 17), 1),
    "two vectors and a rest": (PAPER, (1, 9, 12, 72), 2),
    "kernel 1": (Geometry(kernel_size=1, stride=2, padding=0, scale=1.0, dropout_p=0.0), (3, 9, 9, 12), 3),
    "kernel 5": (Geometry(kernel_size=5, stride=2, padding=2, scale=0.5, dropout_p=0.0), (2, 21, 9, 36), 2),
    "kernel 7, gaps": (Geometry(kernel_size=7, stride=8, padding=3, scale=0.5, dropout_p=0.0), (1, 40, 17, 24), 2),
    "stride 1": (Geometry(kernel_size=3, stride=1, padding=1, scale=0.5, dropout_p=0.0), (2, 17, 8, 48), 3),
}
every_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def tensors(size, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Value, logits, gradient of the output."""
    geometry, shape, heads = size
    generator = torch.Generator().manual_seed(0)
    batch, height, width, _ = shape
    window = geometry.window
    logits_shape = (batch, geometry.strided(height), geometry.strided(width), heads, window, window)
    logits = 3 * torch.randn(logits_shape, generator=generator)
    return tuple(
        tensor.to(dtype)
        for tensor in (torch.randn(shape, generator=generator), logits, torch.randn(shape, generator=generator))
    )


def native(size, inputs, instruction_set=None) -> list[Tensor]:
    value, logits, grad = inputs
    out = LIBRARY.forward(value, logits, size[0], instruction_set)
    return [out, *LIBRARY.backward(grad, value, logits, size[0], instruction_set)]


def reference(size, inputs) -> list[Tensor]:
    value, logits, grad = (tensor.detach().clone() for tensor in inputs)
    value.requires_grad_(), logits.requires_grad_()
    out = outlook_attention_reference(value, logits, size[0])
    return [out.detach(), *torch.autograd.grad(out, (value, logits), grad)]


@cache
def truth_and_reference(size, dtype) -> tuple[list[Tensor], list[Tensor]]:
    inputs = tensors(size, dtype)
    return reference(size, [tensor.double() for tensor in inputs]), reference(size, inputs)


def threads_set_to(count: int):
    class Restore:
        def __enter__(self):
            self.before = torch.get_num_threads()
            torch.set_num_threads(count)

        def __exit__(self, *error):
            torch.set_num_threads(self.before)

    return Restore()


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", library.DTYPES, ids=str)
@every_size
def test_every_instruction_set_is_as_accurate_as_the_reference(size, dtype, instruction_set):
    ours = native(size, tensors(size, dtype), instruction_set)
    for exact, theirs, mine in zip(*truth_and_reference(size, dtype), ours, strict=True):
        rounding = torch.finfo(dtype).eps * exact.abs().max()
        allowed = 2 * (theirs.double() - exact).abs().max() if dtype != torch.float64 else 8 * rounding
        assert (mine.double() - exact).abs().max() <= allowed


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("largest", [39.99, 40.01, 86.0, 200.0, 1e30])
def test_softmax_is_right_on_both_sides_of_the_shortcut(largest, instruction_set):
    """Up to 40 the maximum is not subtracted, above 40 it is; weights down to e^-80 of the largest are compared."""
    geometry = Geometry(kernel_size=3, stride=1, padding=0, scale=1.0, dropout_p=0.0)
    logits = torch.linspace(-largest, largest, 81).reshape(1, 1, 1, 1, 9, 9)
    value = torch.eye(9).reshape(1, 3, 3, 9)  # the output at position i is the row i of the weights
    weights = LIBRARY.forward(value, logits, geometry, instruction_set).reshape(9, 9)
    expected = logits.double().softmax(-1).reshape(9, 9)
    assert_close(weights.double(), expected, rtol=3e-6, atol=1e-36)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("kernel", [3, 5])
def test_infinity_and_nan_spread_as_in_plain_pytorch(kernel, special, instruction_set):
    geometry = Geometry(kernel_size=kernel, stride=1, padding=0, scale=1.0, dropout_p=0.0)
    size = (geometry, (1, kernel, kernel, 8), 1)
    value, logits, _ = tensors(size)
    logits[..., 0, 1] = special
    logits[..., 2, :] = special
    expected = outlook_attention_reference(value, logits, geometry)
    assert expected.isnan().any()
    assert_close(LIBRARY.forward(value, logits, geometry, instruction_set), expected, equal_nan=True)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_every_nan_stays_nan(instruction_set):
    geometry = Geometry(kernel_size=3, stride=1, padding=0, scale=1.0, dropout_p=0.0)
    for bits in (0x7FC00001, 0x7F800001, -1):
        value, logits, _ = tensors((geometry, (1, 3, 3, 8), 1))
        logits.view(torch.int32)[0, 0, 0, 0, 4, 4] = bits
        out = LIBRARY.forward(value, logits, geometry, instruction_set)
        assert out.isnan().all(-1).flatten().tolist() == [position == 4 for position in range(9)]


def test_half_types_round_as_pytorch_does():
    """With K = 1 the softmax is 1: the output is value, read and written again."""
    geometry = Geometry(kernel_size=1, stride=1, padding=0, scale=1.0, dropout_p=0.0)
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.bfloat16, torch.float16):
        value = every.view(dtype).reshape(1, 256, 256, 1)
        out = LIBRARY.forward(value, torch.zeros(1, 256, 256, 1, 1, 1, dtype=dtype), geometry)
        assert_close(out, value, rtol=0, atol=0, equal_nan=True)
    # Sums of two: K = 3 with all logits equal gives means, which need rounding.
    size = (PAPER, (1, 64, 64, 32), 1)
    for dtype, factor in ((torch.bfloat16, 1e30), (torch.float16, 1e-6), (torch.float16, 7e4)):
        value, logits, _ = tensors(size)
        value, logits = (value * factor).to(dtype), logits.to(dtype)
        exact = LIBRARY.forward(value.float(), logits.float(), PAPER)
        assert_close(LIBRARY.forward(value, logits, PAPER), exact.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", library.DTYPES, ids=str)
@every_size
def test_the_same_bits_for_every_number_of_threads_and_every_run(size, dtype, instruction_set):
    inputs = tensors(size, dtype)
    with threads_set_to(1):
        expected = native(size, inputs, instruction_set)
    for count in (2, 3, 8, 2):
        with threads_set_to(count):
            assert all(map(torch.equal, native(size, inputs, instruction_set), expected)), count


def test_an_image_has_the_same_bits_alone_and_in_a_batch():
    size = SIZES["paper"]
    value, logits, _ = tensors(size)
    together = LIBRARY.forward(value, logits, PAPER)
    assert torch.equal(LIBRARY.forward(value[1:].clone(), logits[1:].clone(), PAPER), together[1:])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by opcheck itself
@every_size
def test_operators_pass_opcheck(size):
    geometry = size[0]
    layout = (geometry.kernel_size, geometry.stride, geometry.padding, geometry.scale)
    value, logits, grad = tensors(size)
    channels_first = value.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for given in (value, channels_first):
        torch.library.opcheck(torch.ops.volo.outlook_attention.default, (given, logits, *layout))
        inputs = [tensor.clone().requires_grad_() for tensor in (given, logits)]
        torch.library.opcheck(torch.ops.volo.outlook_attention.default, (*inputs, *layout))
        torch.library.opcheck(torch.ops.volo.outlook_attention_backward.default, (grad, given, logits, *layout))


def options(geometry: Geometry, **more) -> dict:
    names = ("kernel_size", "stride", "padding", "scale")
    return {name: getattr(geometry, name) for name in names} | {"backend": "native"} | more


def test_compiles_with_dynamic_sizes():
    run = torch.compile(
        lambda value, logits: outlook_attention(value, logits, **options(PAPER)),
        fullgraph=True, dynamic=True, backend="aot_eager",
    )  # fmt: skip
    for shape in ((2, 28, 26, 96), (1, 14, 13, 96)):
        value, logits, _ = tensors((PAPER, shape, 3))
        assert_close(run(value, logits), LIBRARY.forward(value, logits, PAPER))


def test_vmap_agrees_with_a_loop():
    size = (PAPER, (2, 9, 8, 12), 3)
    value, logits, _ = tensors(size)
    values = torch.stack([value, value.flip(0), -value], dim=2)
    run = lambda value, logits: outlook_attention(value, logits, **options(PAPER))  # noqa: E731
    out = torch.func.vmap(run, in_dims=(2, None))(values, logits)
    assert_close(out, torch.stack([run(one, logits) for one in values.unbind(2)]))


def test_the_gradients_of_torch_func_go_to_another_backend():
    geometry = SIZES["kernel 5"][0]
    value, logits, grad = tensors(SIZES["kernel 5"])
    loss = lambda value: (outlook_attention(value, logits, **options(geometry, backend=None)) * grad).sum()  # noqa: E731
    _, expected, _ = native(SIZES["kernel 5"], (value, logits, grad))
    assert_close(torch.func.grad(loss)(value), expected)
    assert_close(torch.func.vmap(torch.func.grad(loss))(value[None]), expected[None])
    named = lambda value: outlook_attention(value, logits, **options(geometry)).sum()  # noqa: E731
    with pytest.raises(RuntimeError, match=r"'native' cannot run here: .*torch\.func"):
        torch.func.grad(named)(value)


def test_the_error_of_a_second_derivative_names_the_other_backend():
    value, logits, _ = tensors(SIZES["kernel 5"])
    value.requires_grad_()
    out = outlook_attention(value, logits, **options(SIZES["kernel 5"][0]))
    (gradient,) = torch.autograd.grad(out.pow(2).sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative; pass backend='slices'"):
        gradient.sum().backward()


def test_under_autocast_the_dtype_is_that_of_the_other_backends():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        value, logits, _ = tensors(SIZES["paper"], dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            results = [
                outlook_attention(value, logits, **options(PAPER, backend=name)) for name in ("native", "slices")
            ]
        assert results[0].dtype == results[1].dtype


REFUSALS = {
    "another device": ({"device": "meta"}, {}, "it runs on the CPU only, and the tensors are on meta"),
    "dropout": ({}, {"dropout_p": 0.1}, "it does not support attention dropout, and dropout_p is 0.1"),
    "dtype": ({"dtype": torch.float8_e4m3fn}, {}, "float16, not torch.float8_e4m3fn"),
}


@pytest.mark.parametrize(("change", "more", "message"), REFUSALS.values(), ids=REFUSALS)
def test_errors_give_the_reason(change, more, message):
    value, logits, _ = (tensor.to(**change) if change else tensor for tensor in tensors(SIZES["paper"]))
    with pytest.raises(RuntimeError, match=f"'native' cannot run here: .*{message}"):
        outlook_attention(value, logits, **options(PAPER, **more))


def test_without_the_library_another_backend_runs_and_choosing_native_is_an_error(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: "the native library was not built")
    value, logits, _ = tensors(SIZES["paper"])
    assert NATIVE.refuse(value, logits, PAPER) == "the native library was not built"
    outlook_attention(value, logits, **options(PAPER, backend=None))
    with pytest.raises(RuntimeError, match="'native' cannot run here: the native library was not built"):
        outlook_attention(value, logits, **options(PAPER))


def test_a_missing_or_broken_library_is_reported_as_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(volo.ops.native, "__path__", [str(tmp_path)])
    assert "was not built" in library.load.__wrapped__()
    (tmp_path / LIBRARY.path.name).write_bytes(b"no library")
    assert "cannot be loaded" in library.load.__wrapped__()


def test_backward_saves_only_value_and_logits():
    value, logits, _ = (tensor.requires_grad_() for tensor in tensors(SIZES["paper"]))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        outlook_attention(value, logits, **options(PAPER))
    assert [tensor.data_ptr() for tensor in kept] == [value.data_ptr(), logits.data_ptr()]


@pytest.mark.parametrize("dtype", library.DTYPES, ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_scratch_is_a_few_rows_at_most(dtype, backward):
    side, channels = 112, 192
    value, logits, _ = tensors((PAPER, (1, side, side, channels), 6), dtype)
    with threads_set_to(1):
        scratch = LIBRARY.scratch_bytes(value, logits, PAPER, backward=backward)
    columns = (side // 2) ** 2 * 9 * channels * value.element_size()
    row_in_float32 = side * channels * 4
    if dtype in (torch.float32, torch.float64):
        assert scratch < columns / 200
        assert scratch < row_in_float32
    else:
        assert scratch < 10 * row_in_float32


def test_no_channels_give_no_output_and_zero_gradients():
    value, logits, grad = tensors((PAPER, (2, 5, 5, 0), 1))
    out, d_value, d_logits = native((PAPER, None, 1), (value, logits, grad))
    assert out.shape == d_value.shape == value.shape
    assert torch.equal(d_logits, torch.zeros_like(logits))


def test_several_python_threads_at_once():
    size = SIZES["paper"]
    inputs = tensors(size)
    expected = native(size, inputs)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: native(size, inputs), range(40)))
    assert all(torch.equal(mine, wanted) for result in results for mine, wanted in zip(result, expected, strict=True))


def run_script(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SETUP = """
import os, sys, torch
from volo.ops import outlook_attention
options = dict(kernel_size=3, stride=2, padding=1, scale=0.5, backend="native")
value, logits = torch.randn(4, 28, 28, 32), torch.randn(4, 14, 14, 1, 9, 9)
def run():
    v, a = value.clone().requires_grad_(), logits.clone().requires_grad_()
    out = outlook_attention(v, a, **options)
    out.sum().backward()
    return [out.detach(), v.grad, a.grad]
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this platform")
def test_a_forked_child_neither_hangs_nor_differs():
    code = f"""{SETUP}
torch.set_num_threads(2)
expected = run()  # the parent's pool of threads is there now, and the child will not have it
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    out = outlook_attention(value, logits, **options)
    os._exit(0 if (out.numpy() == expected[0].numpy()).all() else 1)  # torch.equal would enter PyTorch's own pool
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert all(map(torch.equal, run(), expected))
"""
    run_script(code)


def test_workers_of_a_data_loader_can_use_it():
    code = f"""{SETUP}
expected = run()[0]
class Data(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return outlook_attention(value, logits, **options)[index]
out = next(iter(torch.utils.data.DataLoader(Data(), batch_size=4, num_workers=2)))
assert torch.equal(out, expected)
"""
    run_script(code)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_one_thread_means_no_other_thread():
    code = f"""{SETUP}
torch.set_num_threads(1)
before = len(os.listdir("/proc/self/task"))
outlook_attention(value, logits, **options)
assert len(os.listdir("/proc/self/task")) == before
torch.set_num_threads(3)
outlook_attention(value, logits, **options)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert int(run_script(code)) == (2 if LIBRARY.has_threads else 0)


CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")


@pytest.fixture(scope="module")
def arm_program(tmp_path_factory) -> Path:
    """The library for 64-bit Arm and a main that runs one call, in one static program."""
    if CROSS is None:
        pytest.skip("no cross compiler for 64-bit Arm (aarch64-linux-gnu-g++)")
    folder = tmp_path_factory.mktemp("arm")
    flags = ["-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
    flags += ["-Werror", "-Wno-psabi", "-static", "-DVOLO_SET=neon", "-DVOLO_VECTOR_BYTES=16"]
    sources = [SOURCES / "outlook.cpp", SOURCES / "library.cpp", Path(__file__).parent / "run_call.cpp"]
    subprocess.run([CROSS, *flags, *map(str, sources), "-o", str(folder / "program")], check=True)
    return folder / "program"


@pytest.mark.parametrize("dtype", library.DTYPES, ids=str)
@every_size
def test_neon_agrees_under_emulation(size, dtype, arm_program, tmp_path):
    if EMULATOR is None:
        pytest.skip("compiled, but there is no emulator to run it (qemu-aarch64)")
    geometry, (batch, height, width, channels), heads = size
    inputs = tensors(size, dtype)
    logits = inputs[1]
    sizes = [batch, height, width, *logits.shape[1:3], heads, channels // heads]
    sizes += [geometry.kernel_size, geometry.stride, geometry.padding]
    header = np.array([*sizes, library.DTYPES[dtype], inputs[0].nbytes, logits.nbytes], dtype=np.int64).tobytes()
    header += np.float64(geometry.scale).tobytes()
    raw = lambda tensor: tensor.contiguous().view(torch.uint8).numpy().tobytes()  # noqa: E731
    done = subprocess.run(
        [EMULATOR, str(arm_program)], input=header + b"".join(map(raw, inputs)), capture_output=True, check=True
    )
    expected = native(size, inputs)
    assert len(done.stdout) == sum(tensor.nbytes for tensor in expected)
    output = torch.frombuffer(bytearray(done.stdout), dtype=dtype)
    parts = output.split([tensor.numel() for tensor in expected])
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6}.get(dtype, 2 * torch.finfo(dtype).eps)
    for part, wanted in zip(parts, expected, strict=True):
        assert_close(part.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)
