"""Compare time and memory of outlook attention with the formulation of the authors' code.

    python benchmarks/operators.py                      # two threads, a minute or two
    python benchmarks/operators.py --quick --json operators.json

The baseline is the computation of the authors' code between its linear layers: unfold, scale, softmax, matmul, fold.
All candidates have the same inputs and run in interleaved rounds, so that a change of the machine's speed affects all
of them. Times are medians over the rounds; a round is the fastest of three runs. Memory is counted by PyTorch's
profiler, in tensors beyond inputs, output and gradients; for the native backend its own scratch is added. (The file is
not called operator.py: a script of that name would hide a module of Python.)
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from volo.ops import BACKENDS, outlook_attention
from volo.ops.backend import Geometry
from volo.ops.native import library

HEADS, DIM, KERNEL, STRIDE = 6, 32, 3, 2  # the Outlookers of D1
BASELINE = "unfold/fold"
Op = Callable[[Tensor, Tensor], Tensor]


def unfold_fold(value: Tensor, logits: Tensor) -> Tensor:
    """Compute outlook attention as the authors' code does: copy every window out, and fold the results back."""
    batch, height, width, channels = value.shape
    length, window = logits.shape[1] * logits.shape[2], KERNEL**2
    layout = {"kernel_size": KERNEL, "padding": KERNEL // 2, "stride": STRIDE}
    columns = F.unfold(value.permute(0, 3, 1, 2), **layout)
    columns = columns.reshape(batch, HEADS, DIM, window, length).permute(0, 1, 4, 3, 2)
    weights = logits.reshape(batch, length, HEADS, window, window).permute(0, 2, 1, 3, 4)
    weights = (weights * DIM**-0.5).softmax(dim=-1)
    mixed = (weights @ columns).permute(0, 1, 4, 3, 2).reshape(batch, channels * window, length)
    return F.fold(mixed, output_size=(height, width), **layout).permute(0, 2, 3, 1)


def backend(name: str) -> Op:
    layout = {"kernel_size": KERNEL, "stride": STRIDE, "padding": KERNEL // 2, "scale": DIM**-0.5}
    return lambda value, logits: outlook_attention(value, logits, **layout, backend=name)


def inputs(batch: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Value, logits, and the gradient of the output, for a map of side × side."""
    strided = (side + 1) // STRIDE
    logits = torch.randn(batch, strided, strided, HEADS, KERNEL**2, KERNEL**2)
    return torch.randn(batch, side, side, HEADS * DIM), logits, torch.randn(batch, side, side, HEADS * DIM)


def step(op: Op, what: str, value: Tensor, logits: Tensor, grad: Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            op(value, logits)

    leaves = [tensor.clone().requires_grad_() for tensor in (value, logits)]

    def forward_and_backward() -> None:
        torch.autograd.grad(op(*leaves), leaves, grad)

    return forward if what == "forward" else forward_and_backward


def seconds_of(run: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def time_row(ops: dict[str, Op], what: str, batch: int, options: argparse.Namespace) -> dict:
    """Median milliseconds of every operator, and how many times faster than the baseline it is in the median round."""
    given = inputs(batch, options.side)
    runs = {name: step(op, what, *given) for name, op in ops.items()}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            times[name].append(1e3 * seconds_of(run))
    ratios = {
        name: statistics.median(baseline / mine for baseline, mine in zip(times[BASELINE], times[name], strict=True))
        for name in runs
    }
    medians = {name: statistics.median(each) for name, each in times.items()}
    return {"what": what, "batch": batch, "side": options.side, "ms": medians, "ratio": ratios, "every_round": times}


def peak_bytes(run: Callable[[], object]) -> tuple[int, int]:
    """Return the peak bytes of the tensors that a run allocated, and the bytes that were left when it returned."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        kept = run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    del kept
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most, now


def memory_row(ops: dict[str, Op], side: int) -> dict:
    """Bytes beyond inputs, output and gradients: at the peak of each pass, and kept for backward."""
    value, logits, grad = inputs(1, side)
    leaves = [tensor.clone().requires_grad_() for tensor in (value, logits)]
    results = {}
    for name, op in ops.items():

        def no_gradient(op: Op = op) -> Tensor:
            with torch.no_grad():
                return op(value, logits)

        forward, _ = peak_bytes(no_gradient)
        _, kept = peak_bytes(lambda op=op: op(*leaves))
        both, _ = peak_bytes(lambda op=op: torch.autograd.grad(op(*leaves), leaves, grad))
        scratch = [0, 0]
        if name == "native":
            geometry = Geometry(kernel_size=KERNEL, stride=STRIDE, padding=1, scale=1.0, dropout_p=0.0)
            loaded = library.load()
            scratch = [loaded.scratch_bytes(value, logits, geometry, backward=backward) for backward in (False, True)]
        out, gradients = value.nbytes, value.nbytes + logits.nbytes
        results[name] = {
            "forward": max(0, forward - out) + scratch[0],
            "kept for backward": max(0, kept - out),
            "forward + backward": max(0, both - out - gradients) + scratch[1],
        }
    return {"side": side, "pixels": 8 * side, "bytes": results}


def speed_table(rows: list[dict], names: list[str], facts: dict) -> Table:
    title = "milliseconds (times faster than unfold/fold); " + ", ".join(f"{key} {fact}" for key, fact in facts.items())
    table = Table("what", "batch", *names, title=title)
    for row in rows:
        cells = (f"{row['ms'][name]:.3f} ({row['ratio'][name]:.1f}×)" for name in names)
        table.add_row(row["what"], str(row["batch"]), *cells)
    return table


def memory_table(rows: list[dict], names: list[str]) -> Table:
    table = Table("image", "what", *names, title="MiB beyond inputs, output and gradients, one image of D1")
    for row in rows:
        for what in row["bytes"][BASELINE]:
            cells = (f"{row['bytes'][name][what] / 2**20:.2f}" for name in names)
            table.add_row(f"{row['pixels']} px", what, *cells)
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=28, help="side of the map; 28 is D1 at 224 pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write every number")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 5
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console, facts, loaded = Console(), machine(), library.load()
    facts["native"] = loaded if isinstance(loaded, str) else loaded.instruction_sets[-1]
    ops = {BASELINE: unfold_fold} | {
        each.name: backend(each.name) for each in BACKENDS if each.name != "native" or not isinstance(loaded, str)
    }
    speed = [
        time_row(ops, what, batch, options)
        for batch in options.batches
        for what in ("forward", "forward + backward")
    ]  # fmt: skip
    memory = [memory_row(ops, side) for side in (28, 112)]
    console.print(speed_table(speed, list(ops), facts))
    console.print(memory_table(memory, list(ops)))
    if options.json:
        text = json.dumps({"machine": facts, "speed": speed, "memory": memory}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
