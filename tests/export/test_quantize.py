"""int8 files keep the predictions, and are small."""

import numpy as np
import onnx
import pytest
from exported import trained

from volo.data.embedded import photo_folder
from volo.export.onnx import operators
from volo.export.pipeline import export_model
from volo.export.quantize import saturates
from volo.models import load_model


def test_int8_in_onnx_runtime_keeps_the_predictions_and_sensitive_layers_in_float(int8, micro):
    made, steps = int8
    assert "QuantizeLinear" in operators(made.path)
    assert made.report.agreement == 1
    assert made.path.stat().st_size < 0.7 * (micro / "model.safetensors").stat().st_size
    assert any(step.endswith("of the images keep their prediction") for step in steps)
    assert "7 of 7 images read" in steps


def test_stacks_of_matrices_stay_in_float(int8):
    """Of the releases of ONNX Runtime up to 1.32, only that one runs them in int8, and browsers do not."""
    weights = onnx.load(int8[0].path).graph.initializer
    quantized = [one for one in weights if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1]
    assert quantized
    assert all(len(one.dims) == 2 for one in quantized)


def test_processors_without_vnni_get_a_reduced_range(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not saturates()


@pytest.mark.slow
@pytest.mark.parametrize(("to", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_int8_takes_less_than_a_third_of_d1(to, ending, tmp_path, monkeypatch):
    monkeypatch.setattr("volo.export.quantize.KEPT", 0)
    folder = trained(tmp_path / "run", "volo_d1_224", size=(224, 224))
    made = export_model(
        folder,
        to=to,
        output=tmp_path / f"int8.{ending}",
        precision="int8",
        calibration=[str(photo_folder())],
        images=[str(photo_folder())],
    )
    files = [path for path in (made.path, made.path.with_suffix(".bin")) if path.exists()]
    floats = sum(weight.numel() for weight in load_model(folder).model.parameters())
    assert sum(path.stat().st_size for path in files) < 0.3 * 4 * floats
    assert np.isfinite(made.report.difference)


@pytest.mark.slow
def test_int8_in_openvino_keeps_the_predictions(micro):
    """One image at a time: on processors with AMX, OpenVINO 2026.4 computes larger batches of int8 less exactly."""
    made = export_model(
        micro,
        to="openvino",
        output=micro / "int8.xml",
        dynamic="none",
        precision="int8",
        calibration=[str(photo_folder())],
        images=[str(photo_folder())],
    )
    assert made.report.agreement == 1
    assert np.isfinite(made.report.difference)
