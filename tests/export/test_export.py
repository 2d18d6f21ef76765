"""Exported files agree with PyTorch: each format, two batch sizes, two image sizes, real photos."""

import json
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import NAMES, photos, trained

import volo
from volo.data import DataSource, Preprocessing, open_validation_data
from volo.data.embedded import photo_folder
from volo.evaluation.classification import evaluate
from volo.export.capture import capture
from volo.export.formats import ExportOptions
from volo.export.graph import AdaptiveMean
from volo.export.onnx import OPSET, operators, write_onnx
from volo.export.pipeline import export_model
from volo.export.sample_images import real_images
from volo.export.verify import verify
from volo.layers import OutlookAttention
from volo.models import create_model, create_segmenter, load_model, save_model
from volo.models.weights.model_folder import save_segmenter
from volo.runtime.export_info import parse_description
from volo.runtime.runtimes import PyTorchRuntime, open_runtime
from volo.runtime.sessions import onnx_session

#: Operators that TensorRT 10.1's ONNX parser supports (github.com/onnx/onnx-tensorrt, docs/operators.md), of those that
#: a VOLO could contain; neither Col2Im nor a cubic Resize is supported.
TENSORRT = {
    *("Add", "AveragePool", "Cast", "Concat", "Conv", "Div", "Erf", "Expand", "Gather", "Gelu", "Gemm"),
    *("LayerNormalization", "MatMul", "Mul", "Pad", "ReduceMax", "Relu", "Reshape", "Shape", "Slice", "Softmax"),
    *("Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
}


@pytest.fixture(scope="module")
def onnx(micro):
    """Export with preprocessing, softmax and tokens inside."""
    return export_model(
        micro,
        to="onnx",
        output=micro / "full.onnx",
        include_preprocessing=True,
        include_softmax=True,
        include_tokens=True,
    )


@pytest.fixture(scope="module")
def resizing(micro):
    """Export with everything from photos to probabilities inside."""
    return export_model(micro, to="onnx", output=micro / "photos.onnx", include_resize=True, include_softmax=True)


@pytest.fixture
def plain(int8):
    """Export of normalized images to logits."""
    return int8[0]


@pytest.mark.parametrize(
    ("to", "ending", "size"),
    [
        ("openvino", "xml", (40, 51)),
        ("torch-export", "pt2", (32, 32)),
        ("torch-export", "pt2", (40, 51)),
        *(
            pytest.param(*others, marks=pytest.mark.slow)
            for others in (("onnx", "onnx", (32, 32)), ("onnx", "onnx", (40, 51)), ("openvino", "xml", (32, 32)))
        ),
    ],
)
def test_a_file_agrees_with_pytorch(micro, to, ending, size):
    made = export_model(micro, to=to, output=micro / f"{size[1]}.{ending}", size=size)
    report = made.report
    assert report.problems == []
    assert (report.images, report.batches, report.sizes) == (7, (1, 5), (size,))
    assert report.difference < 2e-5  # rounding
    assert json.loads(made.report_path.read_text())["passed"] is True
    assert parse_description(open_runtime(made.path).description, made.path) == made.info
    assert made.info.class_names == NAMES


def test_onnx_holds_standard_operators_that_tensorrt_lists(onnx):
    import onnx as library

    assert onnx.report.problems == []

    model = library.load(onnx.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert operators(onnx.path) <= TENSORRT
    text = onnx.path.read_bytes()
    assert b"/volo/" not in text  # paths of this machine
    assert b".py" not in text


def axes(path: Path) -> list[list[str | int]]:
    """The dimensions of the input and of the outputs of an ONNX file: names or numbers."""
    session = onnx_session(path)
    return [tensor.shape for tensor in (*session.get_inputs(), *session.get_outputs())]


def test_varying_axes_have_names(onnx, resizing, plain):
    """Triton, trtexec and ONNX Runtime Web let people fix them by name."""
    assert axes(onnx.path) == [["batch", 32, 32, 3], ["batch", 10], ["batch", 4, 4, 10]]
    assert axes(resizing.path) == [["batch", "height", "width", 3], ["batch", 10]]
    assert axes(plain.path) == [["batch", 3, 32, 32], ["batch", 10]]


def test_preprocessing_softmax_and_tokens_inside_an_onnx_file(onnx, micro):
    pixels = real_images(None, Preprocessing(size=(32, 32), crop_pct=0.9))[:3]
    model = load_model(micro).model
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(Preprocessing(size=(32, 32)).normalize(pixels)))
        logits = model(Preprocessing(size=(32, 32)).normalize(pixels))
    for runtime in ("onnxruntime", "openvino"):
        scores, tokens = open_runtime(onnx.path, runtime=runtime).run(pixels.permute(0, 2, 3, 1))
        torch.testing.assert_close(scores, logits.softmax(dim=1), atol=1e-5, rtol=0)
        torch.testing.assert_close(tokens, expected.tokens, atol=1e-4, rtol=0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("made", "atol"), [("onnx", 1e-4), ("resizing", 3e-3)])
def test_a_predictor_takes_an_exported_file(made, atol, micro, runtime, request):
    """The photos have different sizes; two of three differ from the one before."""
    expected = list(volo.Predictor(micro, device="cpu").predict(photos(), top_k=2))
    predictor = volo.Predictor(request.getfixturevalue(made).path, runtime=runtime, threads=1)
    got = list(predictor.predict(photos(), top_k=2, batch_size=3))
    assert [prediction.names for prediction in got] == [prediction.names for prediction in expected]
    for one, other in zip(got, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=atol)
    assert predictor.model is None


def test_the_report_of_a_file_that_resizes_compares_it_with_pillow(resizing):
    report = json.loads(resizing.report_path.read_text())
    assert (report["passed"], report["batches"], report["sizes"]) == (True, [1, 5], [[32, 32]])
    assert report["difference"] < 1e-5  # rounding only: PyTorch has the same pixels
    pillow = report["resizing"]
    assert (pillow["agreement"], pillow["least_agreement"]) == (1, 0.85)
    assert 0 < pillow["largest_pixel"] < 1.5
    assert 0.1 < pillow["mean_pixel"] < 0.4  # Pillow rounds twice
    assert 1e-5 < pillow["difference"] < 0.05
    info = parse_description(open_runtime(resizing.path).description, "x")
    assert (info.include_resize, info.include_preprocessing) == (True, True)
    assert "Resize" not in operators(resizing.path)  # OpenVINO would run it without antialiasing


def test_too_many_predictions_that_differ_from_those_on_pillow_s_pixels_are_a_problem(resizing):
    assert resizing.report.resizing is not None
    report = replace(resizing.report, resizing=replace(resizing.report.resizing, agreement=0.8))
    assert report.problems == ["80.0% of the predictions agree with PyTorch on Pillow's pixels, fewer than 85%"]


def test_an_evaluation_with_a_file_that_resizes_scores_the_same(resizing, micro, tmp_path):
    for index, path in enumerate(photos()):
        folder = tmp_path / "val" / NAMES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    images = open_validation_data(str(tmp_path), split="val", source=DataSource())
    results = [evaluate(volo.Predictor(path, device="cpu"), images, batch_size=4) for path in (micro, resizing.path)]
    assert np.array_equal(results[0].ranked[:, 0], results[1].ranked[:, 0])
    np.testing.assert_allclose(results[0].probability, results[1].probability, atol=3e-3)


def test_weights_too_large_for_half_precision_are_named_before_the_work_starts(tmp_path):
    model = create_model("volo_micro_32", num_classes=2)
    with torch.no_grad():
        model.norm.bias[0] = 1e5
    settings = {"class_names": ("a", "b"), "preprocessing": {"size": (32, 32)}}
    save_model(tmp_path, model.config, model.state_dict(), **settings)
    with pytest.raises(ValueError, match=r"^in fp16 .* has values that are not finite in norm\.bias \(1 of"):
        export_model(tmp_path, to="torch-export", output=tmp_path / "half.pt2", precision="fp16")
    assert not (tmp_path / "half.pt2").exists()


@pytest.mark.parametrize(
    ("to", "ending"), [("torch-export", "pt2"), pytest.param("onnx", "onnx", marks=pytest.mark.slow)]
)
def test_half_precision_halves_a_file(onnx, micro, to, ending):
    half = export_model(micro, to=to, output=micro / f"half.{ending}", precision="fp16")
    assert half.path.stat().st_size < 0.65 * onnx.path.stat().st_size
    assert half.report.problems == []
    assert half.report.difference > 1e-5  # it does compute in half precision


def test_bfloat16_agrees_on_a_trained_model(tmp_path):
    """Random weights give answers too close to each other for the eight bits of bfloat16."""
    half = export_model("volo_tiny_32.cifar10", to="torch-export", output=tmp_path / "half.pt2", precision="bf16")
    assert half.info.precision == "bf16"
    assert half.report.problems == []
    assert half.report.difference > 1e-3  # it does compute in bfloat16


def test_an_archive_of_one_image_loads_without_volo(micro):
    path = export_model(micro, to="torch-export", output=micro / "alone.pt2", dynamic="none").path
    expected = [prediction.names for prediction in volo.Predictor(micro).predict(photos())]
    assert [prediction.names for prediction in volo.Predictor(path).predict(photos(), batch_size=3)] == expected
    code = """
import sys, torch
model = torch.export.load(sys.argv[1]).module()
assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
assert not any(name.partition('.')[0] == 'volo' for name in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, path], check=True)
    with zipfile.ZipFile(path) as archive:
        (graph,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("models/model.json"))
    for place in (".py", "/volo", "volo."):  # where the code lies on the machine that wrote the file
        assert place not in graph


@pytest.mark.parametrize("made", ["onnx", "resizing", "plain"])
def test_the_script_for_small_containers_prints_the_same_predictions(made, request):
    onnx = request.getfixturevalue(made)
    script = Path(__file__).parents[2] / "examples" / "classify.py"
    expected = volo.Predictor(onnx.path).predict(photos(), top_k=3)
    command = [sys.executable, script, onnx.path, *photos()]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line, path, prediction in zip(lines, photos(), expected, strict=True):
        words = line.removeprefix(f"{path} ").split(" ")
        assert tuple(words[::2]) == prediction.names
        shares = [float(word.rstrip("%")) / 100 for word in words[1::2]]
        assert shares == pytest.approx(prediction.probabilities, abs=0.002)
    imported = script.read_text(encoding="utf-8")
    assert "volo" not in "".join(line for line in imported.splitlines() if "import" in line)


def test_a_failed_comparison_is_reported_and_keeps_the_file(onnx, micro):
    model = load_model(micro).model
    with torch.no_grad():
        model.head.bias[3] += 50
    pixels = real_images(None, Preprocessing(size=(32, 32), crop_pct=0.9))
    report = verify(model, open_runtime(onnx.path), onnx.info, [pixels])
    assert len(report.problems) == 2
    assert "outputs differ by up to 0.99, more than 0.0001" in report.problems[0]
    assert report.problems[1] == "0.0% of the predictions agree, fewer than 99%"
    assert onnx.path.exists()


def test_outputs_that_are_not_numbers_fail_the_comparison(onnx, micro):
    model = load_model(micro).model
    info = parse_description(
        onnx.info.to_json()
        .replace('"include_preprocessing": true', '"include_preprocessing": false')
        .replace('"include_softmax": true', '"include_softmax": false'),
        "x",
    )
    broken = PyTorchRuntime(torch.nn.Sequential(model, torch.nn.LogSigmoid(), torch.nn.Threshold(0, float("nan"))))
    report = verify(model, broken, info, [real_images(None, Preprocessing(size=(32, 32)))])
    assert report.difference == float("inf")
    assert report.problems


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "onx"}, "unknown format 'onx'; did you mean 'onnx'"),
        (
            {"to": "onnx", "dynamic": "height"},
            "unknown kind of dynamic shape 'height'; available: none, batch, size",
        ),
        ({"to": "onnx", "precision": "int4"}, "unknown precision 'int4'; did you mean 'int8'"),
        ({"to": "torch-export", "precision": "int8"}, "torch-export does not support int8; onnx and openvino do"),
        ({"to": "aotinductor", "dynamic": "both"}, "aotinductor supports only one image size"),
        ({"to": "onnx", "include_resize": True, "dynamic": "both"}, "resizes all photos to one size: use --dynamic"),
        (
            {"to": "onnx", "include_resize": True, "precision": "int8"},
            "int8 is calibrated on images that are already resized",
        ),
        ({"to": "onnx", "threads": 0}, "threads must be at least 1, not 0"),
    ],
)
def test_options_that_are_not_supported(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**arguments)


def test_a_segmentation_model_does_not_resize(tmp_path):
    with pytest.raises(ValueError, match="inside the file of a segmentation model: omit --include-resize"):
        export_model(segmenter(tmp_path / "run"), to="onnx", output=tmp_path / "a.onnx", include_resize=True)


def segmenter(folder: Path) -> Path:
    torch.manual_seed(0)
    model = create_segmenter("volo_micro_32", num_classes=5, decoder_channels=32, img_size=(64, 64))
    folder.mkdir()
    save_segmenter(
        folder,
        model.config,
        model.state_dict(),
        class_names=NAMES[:5],
        class_colors=tuple((index, 0, 0) for index in range(5)),
        ignore_index=255,
        preprocessing=asdict(Preprocessing(size=(64, 64))),
        short_side=None,
    )
    return folder


@pytest.mark.parametrize(
    ("to", "ending", "size", "dynamic"),
    [
        ("torch-export", "pt2", (70, 90), "batch"),
        *(
            pytest.param(*others, marks=pytest.mark.slow)
            for others in (("onnx", "onnx", (64, 64), "both"), ("openvino", "xml", (96, 64), "none"))
        ),
    ],
)
def test_a_segmentation_model_gives_logits_of_every_pixel(to, ending, size, dynamic, tmp_path):
    made = export_model(segmenter(tmp_path / "run"), to=to, output=tmp_path / f"a.{ending}", size=size, dynamic=dynamic)
    assert made.report.problems == []
    assert made.info.task == "segmentation"
    assert open_runtime(made.path)(torch.zeros(1, 3, *size)).shape == (1, 5, *size)
    if to == "onnx":
        assert axes(made.path) == [["batch", 3, "height", "width"], ["batch", 5, "height", "width"]]
    with pytest.raises(ValueError, match="is a segmentation model; Predictor takes classification models"):
        volo.Predictor(made.path)


@pytest.mark.parametrize(("size", "bins"), [((7, 5), 3), ((4, 9), (1, 6)), ((6, 6), 6)])
def test_adaptive_means_agree_with_pytorch(size, bins):
    images = torch.randn(2, 3, *size)
    expected = torch.nn.AdaptiveAvgPool2d(bins)(images)
    torch.testing.assert_close(AdaptiveMean(bins)(images), expected, atol=1e-6, rtol=0)


# Slow tests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "ending", "options"),
    [
        ("openvino", "xml", {}),
        ("torch-export", "pt2", {"dynamic": "none"}),
        ("torch-export", "pt2", {"precision": "fp16"}),
        ("aotinductor", "pt2", {}),
    ],
)
def test_every_format_resizes(micro, tmp_path, to, ending, options):
    made = export_model(micro, to=to, output=tmp_path / f"photos.{ending}", include_resize=True, **options)
    assert made.report.problems == []
    expected = [prediction.name for prediction in volo.Predictor(micro).predict(photos())]
    predictor = volo.Predictor(made.path, trust=to == "aotinductor")
    assert [prediction.name for prediction in predictor.predict(photos())] == expected


class ChannelsFirst(torch.nn.Module):
    """Outlook attention of images (B, C, H, W), whose sides :func:`capture` lets vary."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = OutlookAttention(8, 2)
        self.attention.backend = "slices"

    def forward(self, images):
        return self.attention(images.permute(0, 2, 3, 1))


def test_outlook_attention_takes_maps_of_odd_sides_where_sizes_vary(tmp_path):
    torch.manual_seed(0)
    layer = ChannelsFirst().eval()
    program = capture(layer, torch.randn(2, 8, 6, 10), batches=True, sizes=True)
    write_onnx(program, tmp_path / "layer.onnx")
    assert axes(tmp_path / "layer.onnx") == [["batch", 8, "height", "width"], ["batch", "height", "width", 8]]
    session, exported = onnx_session(str(tmp_path / "layer.onnx"), threads=1), program.module()
    for shape in ((1, 8, 6, 10), (3, 8, 9, 7), (2, 8, 5, 4), (2, 8, 4, 11)):
        images = torch.randn(shape)
        with torch.inference_mode():
            expected = layer(images)
            torch.testing.assert_close(exported(images), expected)
        (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("to", "ending"), [("onnx", "onnx"), ("openvino", "xml"), ("torch-export", "pt2")])
@pytest.mark.parametrize("name", ["volo_micro_32", "volo_tiny_32", "volo_d1_224"])
def test_batch_and_size_may_vary(name, to, ending, tmp_path):
    side = int(name.rpartition("_")[2])
    folder = trained(tmp_path / "run", name, size=(side, side))
    made = export_model(folder, to=to, output=tmp_path / f"both.{ending}", dynamic="both")
    assert made.report.problems == []
    assert made.report.sizes == ((side, side), (side * 5 // 4, side * 3 // 2))
    if to == "onnx":
        assert axes(made.path) == [["batch", 3, "height", "width"], ["batch", 10]]
    runtime, model = open_runtime(made.path), load_model(folder).model
    patch = model.config.patch_size
    least, odd = 4 * patch, (9 * patch, 7 * patch)  # two tokens a side, after both steps; odd maps before the second
    for shape in ((1, 3, least, least), (3, 3, 47, 33), (2, 3, 96, 64), (1, 3, *odd)):
        images = torch.randn(shape)
        with torch.inference_mode():
            expected = model(images)
        torch.testing.assert_close(runtime(images), expected, atol=1e-4 * max(1, float(expected.abs().max())), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "torch-export", "aotinductor"])
@pytest.mark.parametrize("name", ["volo_tiny_32", "volo_d1_224"])
def test_larger_models(name, to, tmp_path):
    side = int(name.rpartition("_")[2])
    folder = trained(tmp_path / "run", name, size=(side, side))
    ending = {"onnx": "onnx", "openvino": "xml"}.get(to, "pt2")
    for size in ((side, side), (side + 16, side + 48)):
        made = export_model(folder, to=to, output=tmp_path / f"{size[1]}.{ending}", size=size)
        assert made.report.problems == []
        if to == "onnx":
            assert operators(made.path) <= TENSORRT


@pytest.mark.slow
def test_a_package_of_aotinductor_loads_without_volo(micro):
    made = export_model(micro, to="aotinductor", output=micro / "compiled.pt2", include_preprocessing=True)
    assert made.report.problems == []
    expected = [prediction.names for prediction in volo.Predictor(micro).predict(photos())]
    assert [prediction.names for prediction in volo.Predictor(made.path, trust=True).predict(photos())] == expected
    with pytest.raises(ValueError, match="cannot be loaded by aotinductor: it contains machine code"):
        volo.Predictor(made.path)
    code = """
import sys, torch
model = torch._inductor.aoti_load_package(sys.argv[1])
assert model(torch.zeros(3, 32, 32, 3, dtype=torch.uint8)).shape == (3, 10)
assert not any(name.partition('.')[0] == 'volo' for name in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, made.path], check=True)


@pytest.mark.slow
def test_int8_with_everything_but_convolutions_takes_a_third_of_the_size(onnx, micro, monkeypatch):
    monkeypatch.setattr("volo.export.quantize.KEPT", 0)
    made = export_model(
        micro, to="onnx", output=micro / "small.onnx", precision="int8", calibration=[str(photo_folder())]
    )
    assert made.path.stat().st_size < 0.36 * onnx.path.stat().st_size
