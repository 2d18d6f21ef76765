"""The worker process of one candidate: it loads the model, and runs batches on request.

    python -m volo.bench.worker

It reads requests as lines of JSON from standard input and writes answers as lines of JSON to standard output. Imports
of this module count as the candidate's start-up time and memory, so it imports only the packages that the runtime
needs.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volo.runtime.sessions import onnx_session, openvino_request

#: Prefix of the name of a timm model.
TIMM = "timm:"

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The model, runtime and batch that a worker runs.

    Attributes:
        runtime: one of :data:`volo.bench.candidates.BENCH_RUNTIMES`, or ``file``: the runtime that a ``.pt2`` file
            was written for.
        source: an exported file, a source of :func:`volo.load_model`, or ``timm:NAME``.
        weights: the file of weights of a timm model.
        shape: shape of a batch, in the layout that ``dtype`` implies.
        dtype: float32 for normalized images (B, C, H, W), or uint8 for pixels (B, H, W, C).
        threads: number of CPU threads.
        trust: whether a ``.pt2`` file may run code that is in it.
    """

    runtime: str
    source: str
    weights: str | None = None
    shape: tuple[int, ...]
    dtype: str = "float32"
    threads: int
    trust: bool = False


def serve() -> None:
    """Answer requests from standard input until it is closed.

    The first request is a :class:`Measurement`; its answer, "ready", follows the first batch. A later request is
    "peak", answered with :func:`peak_bytes`, or a number of seconds, answered with :func:`time_calls`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent process ends this one
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output that libraries print must not mix with the answers
    call = open_call(Measurement(**json.loads(sys.stdin.readline())))
    call()
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(peak_bytes() if request == "peak" else time_calls(call, request)), file=answers)


def time_calls(call: Call, seconds: float) -> list[float]:
    """Repeat a call until ``seconds`` have passed, and return the seconds of each call.

    The first of several calls is dropped, since it runs with cold caches.
    """
    calls: list[float] = []
    while sum(calls) < seconds:
        start = time.perf_counter()
        call()
        calls.append(time.perf_counter() - start)
    return calls[1:] or calls


def open_call(measurement: Measurement) -> Call:
    """Load the model and return a function that runs it on one random batch."""
    random, shape, threads = np.random.default_rng(0), measurement.shape, measurement.threads
    if measurement.dtype == "uint8":
        batch = random.integers(0, 256, shape, np.uint8)
    else:
        batch = random.standard_normal(shape, np.float32)
    if measurement.runtime == "onnxruntime":
        session = onnx_session(measurement.source, threads=threads)
        feed = {session.get_inputs()[0].name: batch}
        return lambda: session.run(None, feed)
    if measurement.runtime == "openvino":
        request = openvino_request(measurement.source, threads=threads)
        return lambda: request.infer([batch], share_inputs=True)
    import torch

    torch.set_num_threads(threads)
    run, images = _module(measurement), torch.from_numpy(batch)

    def call() -> None:
        with torch.inference_mode():
            run(images)

    return call


def _module(measurement: Measurement) -> Callable[[Any], object]:
    """Return the model as a callable of PyTorch tensors."""
    if measurement.runtime == "file":
        from volo.runtime.runtimes import open_runtime

        return open_runtime(measurement.source, threads=measurement.threads, trust=measurement.trust)
    if measurement.source.startswith(TIMM):
        from volo.bench.timm_models import create

        name = measurement.source.removeprefix(TIMM)
        model = create(name, measurement.shape[-1], weights=measurement.weights)
        if measurement.runtime != "compile":
            return model
        import torch

        from volo.fused.optimize import FREEZING  # imported here, so that it adds to no other candidate's start-up

        return torch.compile(model, dynamic=False, options=FREEZING)
    from volo.fused.optimize import optimize_for_inference
    from volo.models import load_model

    return optimize_for_inference(load_model(measurement.source).model, compile=measurement.runtime == "compile")


def peak_bytes() -> int:
    """Return the most memory that this process has held, in bytes.

    On Linux, ``ru_maxrss`` can include the memory of the parent process, so ``VmHWM`` is read instead.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    serve()
