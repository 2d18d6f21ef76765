"""The process of a competitor."""

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest

from volo.bench.candidates import Candidate
from volo.bench.models import find_model
from volo.bench.runner import LeftOutError, Plan, Worker, run_interleaved
from volo.bench.worker import Measurement, turn


def test_the_first_of_several_calls_of_a_turn_is_dropped_and_a_long_call_is_the_turn():
    pauses = itertools.chain([0.05], itertools.repeat(0.001))
    calls = turn(lambda: time.sleep(next(pauses)), 0.08)
    assert len(calls) > 2
    assert max(calls) < 0.05
    assert len(turn(lambda: time.sleep(0.05), 0.02)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="there it is ru_maxrss as it is")
def test_peak_memory_is_that_of_the_process_alone_not_of_the_one_that_started_it():
    held = np.ones(2**26)  # 512 MiB, touched
    code = "from volo.bench.worker import peak_bytes; print(peak_bytes())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 2**22 < peak < held.nbytes / 2


def test_what_opens_onnx_and_openvino_needs_no_pytorch():
    code = "import sys, volo.bench.worker; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_competitor_that_cannot_start_says_why(tmp_path):
    with pytest.raises(LeftOutError, match=r"nowhere\.onnx"):
        Worker(Measurement(runtime="onnxruntime", source=str(tmp_path / "nowhere.onnx"), shape=(1, 3, 8, 8), threads=1))


def test_one_that_fails_is_left_out_and_with_nobody_left_it_is_an_error():
    said = []
    wrong = Candidate(find_model("volo_micro_32"), "file", False)  # a model is no exported file
    with pytest.raises(RuntimeError, match="nothing could be measured"):
        run_interleaved([wrong], batches=[1], threads=[1], plan=Plan(), say=said.append)
    assert "volo_micro_32, file is left out" in said[1]
    assert "is no exported model" in said[1]
