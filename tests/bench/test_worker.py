"""The worker process of a candidate."""

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest

from volo.bench.candidates import Candidate
from volo.bench.models import find_model
from volo.bench.runner import CandidateError, Plan, Worker, run_interleaved
from volo.bench.worker import Measurement, time_calls


def test_the_first_of_several_calls_is_dropped_and_a_single_long_call_is_kept():
    pauses = itertools.chain([0.05], itertools.repeat(0.001))
    calls = time_calls(lambda: time.sleep(next(pauses)), 0.08)
    assert len(calls) > 2
    assert max(calls) < 0.05
    assert len(time_calls(lambda: time.sleep(0.05), 0.02)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report ru_maxrss, which is right there")
def test_peak_memory_is_that_of_the_process_alone_not_of_the_one_that_started_it():
    held = np.ones(2**26)  # 512 MiB, touched
    code = "from volo.bench.worker import peak_bytes; print(peak_bytes())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 2**22 < peak < held.nbytes / 2


def test_workers_of_onnx_and_openvino_do_not_import_pytorch():
    code = "import sys, volo.bench.worker; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_candidate_that_cannot_start_gives_the_reason(tmp_path):
    with pytest.raises(CandidateError, match=r"nowhere\.onnx"):
        Worker(Measurement(runtime="onnxruntime", source=str(tmp_path / "nowhere.onnx"), shape=(1, 3, 8, 8), threads=1))


def test_a_failed_candidate_is_left_out_and_it_is_an_error_if_none_is_left():
    lines = []
    wrong = Candidate(find_model("volo_micro_32"), "file", False)  # a model is not an exported file
    with pytest.raises(RuntimeError, match="nothing could be measured"):
        run_interleaved([wrong], batches=[1], threads=[1], plan=Plan(), report=lines.append)
    assert "volo_micro_32, file is left out" in lines[1]
    assert "is not an exported model" in lines[1]
