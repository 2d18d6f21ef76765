"""Errors for files that cannot be run give the file and the reason."""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from volo.data import Preprocessing
from volo.inference import Predictor
from volo.runtime.export_info import EXPORT_FORMAT_VERSION, ExportInfo, parse_description
from volo.runtime.forward import ExportedModel
from volo.runtime.runtimes import PyTorchRuntime, open_runtime

#: Files of a classifier of three classes for images of 32 pixels.
OLD = Path(__file__).parents[1] / "golden" / "cfc38e8"
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


def masks_described(**changes):
    """The description of a segmentation model, with other values."""
    values = {"task": "segmentation", "class_colors": [[0, 0, 0], [0, 0, 9]], "ignore_index": 255, "short_side": None}
    return json.dumps({**json.loads(DESCRIBED.to_json()), **values, **changes})


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
        ('{"format_version": "\\u001b[2J", "volo_version": "9"}', r"has format version \\x1b\[2J, written by volo 9"),
        ("[" * 100_000, "cannot be read: it is nested more than 20 levels deep; export the model again"),
        (json.dumps({"format_version": EXPORT_FORMAT_VERSION}), "has no 'volo_version'; export the model again"),
        (DESCRIBED.to_json().replace('"size": [32, 32]', '"size": [0, 3]'), "is damaged: size must be"),
        (
            DESCRIBED.to_json().replace('["ant", "bee"]', '["ant", 7]'),
            "is damaged: class_names must be a list of texts",
        ),
        (DESCRIBED.to_json().replace('"batch"', '["batch"]'), "dynamic must be of type str, not .'batch'.; export"),
        (
            DESCRIBED.to_json().replace('"batch"', '"some"'),
            "dynamic must be one of none, batch, size, both, not 'some'",
        ),
        (DESCRIBED.to_json().replace('"classification"', '"detection"'), "task must be one of .*, not 'detection'"),
        (DESCRIBED.to_json().replace('softmax": false', 'softmax": 0'), "include_softmax must be of type bool, not 0"),
        (masks_described(class_colors=[[0, 0, 0]]), "class_colors must be 2 colors"),
        (masks_described(class_colors=[[0, 0, 0], [0, 0, 256]]), "class_colors must be 2 colors"),
        (masks_described(ignore_index=None), "ignore_index must be an integer from 0 to 65535, not None"),
        (masks_described(short_side=1e300), r"short_side must be null or 1 to 16,384 pixels, not 1e\+300"),
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


def test_a_damaged_file_of_onnx_is_tried_once_and_nothing_is_printed(tmp_path, capsys):
    value, other = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("images", "scores")
    )
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["scores"])], "g", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString().replace(b"Relu", b"R\xfflu"))
    with pytest.raises(
        ValueError, match=r"a\.onnx cannot be loaded by onnxruntime: 'utf-8' codec can't decode byte 0xff"
    ):
        Predictor(tmp_path / "a.onnx")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocessing": {"size": [40, 48]}}, "is not a model that can be run: "),
        ({"class_names": ["a", "b"]}, r"has outputs of shape \(1, 3\) for 1 images, and its description has 2 classes"),
        ({"include_preprocessing": True}, "is not a model that can be run: "),
    ],
)
@pytest.mark.parametrize("name", ["run.onnx", "run.pt2", "run.xml"])
def test_a_description_that_does_not_fit_its_model_is_an_error_of_the_prediction(name, change, message):
    model = ExportedModel(OLD / name)
    stored = json.loads(model.info.to_json())
    preprocessing = stored["preprocessing"] | change.get("preprocessing", {})
    model.info = parse_description(json.dumps(stored | change | {"preprocessing": preprocessing}), name)
    with pytest.raises(ValueError, match=rf"run\..* {message}"):
        Predictor(model)(np.zeros((50, 50, 3), np.uint8))


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
