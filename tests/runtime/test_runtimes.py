"""Errors for files that cannot be run give the file and the reason."""

import json
import zipfile

import pytest
import torch

from volo.data import Preprocessing
from volo.inference import Predictor
from volo.runtime.export_info import EXPORT_FORMAT_VERSION, ExportInfo, parse_description
from volo.runtime.runtimes import PyTorchRuntime, open_runtime

DESCRIBED = ExportInfo(
    volo_version="0.1.0",
    source="runs/a",
    task="classification",
    class_names=("ant", "bee"),
    preprocessing=Preprocessing(size=(32, 32)),
    dynamic="batch",
    precision="fp32",
    include_preprocessing=False,
    include_resize=False,
    include_softmax=False,
    include_tokens=False,
)


def test_a_description_survives_a_round_trip_through_json():
    assert parse_description(DESCRIBED.to_json(), "m.onnx") == DESCRIBED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no description by volo"),
        ("{", "cannot be read: .*export the model again"),
        ("[]", "cannot be read"),
        (
            json.dumps({"format_version": EXPORT_FORMAT_VERSION + 1, "volo_version": "9"}),
            "format version 2, written by volo 9; this",
        ),
        (json.dumps({"format_version": EXPORT_FORMAT_VERSION}), "is incomplete: 'class_names'; export the model again"),
        (DESCRIBED.to_json().replace('"size": [32, 32]', '"size": [0, 3]'), "is incomplete: size must be"),
    ],
)
def test_errors_of_damaged_descriptions(text, message):
    with pytest.raises(ValueError, match=rf"m\.onnx.*{message}"):
        parse_description(text, "m.onnx")


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "y")


@pytest.mark.parametrize(
    ("name", "make", "arguments", "message"),
    [
        ("gone.onnx", None, {}, r"there is no file .*gone\.onnx"),
        ("a.onnx", lambda path: path.write_text("no model"), {}, r"a\.onnx cannot be loaded by onnxruntime: "),
        ("a.xml", lambda path: path.write_text("<no/>"), {}, r"a\.xml cannot be loaded by openvino: "),
        ("a.pt2", lambda path: path.write_text("no archive"), {}, r"a\.pt2 is not a PyTorch archive: "),
        ("a.pt2", archive, {}, r"a\.pt2 cannot be loaded by torch-export: "),
        ("a.onnx", None, {"runtime": "onnxrt"}, "unknown runtime 'onnxrt'; did you mean 'onnxruntime'"),
        ("a.xml", archive, {"runtime": "onnxruntime"}, r"a\.xml runs in openvino, not in onnxruntime"),
        ("a.onnx", archive, {"threads": 0}, "threads must be at least 1, not 0"),
    ],
)
def test_errors_of_files_that_cannot_be_run(name, make, arguments, message, tmp_path):
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        Predictor(tmp_path / name, **arguments)


def test_only_exported_files_are_opened(tmp_path):
    with pytest.raises(ValueError, match=r"not an exported model; exported files end in \.onnx, \.xml, \.pt2"):
        open_runtime(tmp_path / "model.safetensors")


def test_an_exported_file_runs_on_the_cpu_only():
    with pytest.raises(ValueError, match="runs on the CPU, not on cuda"):
        Predictor("a.onnx", device="cuda")


def test_a_runtime_for_exported_files_does_not_run_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="onnxruntime runs exported files: write one with `volo export"):
        Predictor(tmp_path, runtime="onnxruntime")


def test_threads_are_set_during_the_call_only():
    before, seen = torch.get_num_threads(), []

    class Recorder(torch.nn.Module):
        def forward(self, batch):
            seen.append(torch.get_num_threads())
            return batch

    PyTorchRuntime(Recorder(), threads=before + 1)(torch.zeros(1))
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
