"""One competitor, in a process of its own: it gets ready, and runs when it is told that it has the turn.

    python -m volo.bench.worker    # a job, and then turns, as lines of JSON on standard input; answers on the output

What is imported here counts as start-up and as memory, so it is what the runtime needs, and no more.
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

#: What stands before the name of a model of timm's.
TIMM = "timm:"

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a worker runs.

    Attributes:
        runtime: one of :data:`volo.bench.candidates.BENCH_RUNTIMES`, or ``file``: the one that a ``.pt2`` file is for.
        source: an exported file; else what :func:`volo.load_model` takes, or ``timm:NAME``.
        weights: of a model of timm's, a file.
        shape: of a batch, as ``dtype`` says.
        dtype: float32, normalized (B, C, H, W); or uint8, pixels (B, H, W, C).
        threads: to compute with.
    """

    runtime: str
    source: str
    weights: str | None = None
    shape: tuple[int, ...]
    dtype: str = "float32"
    threads: int


def serve() -> None:
    """Answer the job once its first batch has run, a number of seconds with the calls of a turn, ``peak`` in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    call = open_call(Measurement(**json.loads(sys.stdin.readline())))
    call()
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(peak_bytes() if asked == "peak" else turn(call, asked)), file=answers)


def turn(call: Call, seconds: float) -> list[float]:
    """Seconds of each call, until ``seconds`` are over; of several, the first finds cold caches and is dropped."""
    calls: list[float] = []
    while sum(calls) < seconds:
        start = time.perf_counter()
        call()
        calls.append(time.perf_counter() - start)
    return calls[1:] or calls


def open_call(job: Measurement) -> Call:
    """What runs one batch."""
    draw = np.random.default_rng(0)
    pixels = job.dtype == "uint8"
    batch = draw.integers(0, 256, job.shape, np.uint8) if pixels else draw.standard_normal(job.shape, np.float32)
    if job.runtime == "onnxruntime":
        session = onnx_session(job.source, threads=job.threads)
        feed = {session.get_inputs()[0].name: batch}
        return lambda: session.run(None, feed)
    if job.runtime == "openvino":
        request = openvino_request(job.source, threads=job.threads)
        return lambda: request.infer([batch], share_inputs=True)
    import torch

    torch.set_num_threads(job.threads)
    run, images = _module(job), torch.from_numpy(batch)

    def call() -> None:
        with torch.inference_mode():
            run(images)

    return call


def _module(job: Measurement) -> Callable[[Any], object]:
    """A model of PyTorch's, ready to be called."""
    if job.runtime == "file":
        from volo.runtime.runtimes import open_runtime

        return open_runtime(job.source, threads=job.threads)
    if job.source.startswith(TIMM):
        from volo.bench.timm_models import create

        model = create(job.source.removeprefix(TIMM), job.shape[-1], weights=job.weights)
        if job.runtime != "compile":
            return model
        import torch

        from volo.fused.optimize import FREEZING  # no start-up of the others waits for it

        return torch.compile(model, dynamic=False, options=FREEZING)
    from volo.fused.optimize import optimize_for_inference
    from volo.models import load_model

    return optimize_for_inference(load_model(job.source).model, compile=job.runtime == "compile")


def peak_bytes() -> int:
    """The most memory that this process has held.

    Linux counts into ``ru_maxrss`` what the process that started this one held, too; ``VmHWM`` is this one's alone.
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
