"""Exported segmentation models give the same masks as the model that they were exported from, in every runtime."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from segments import save_untrained

from volo.data import Preprocessing
from volo.export.pipeline import export_model
from volo.inference import Predictor, Segmenter
from volo.models import create_model, save_model
from volo.runtime.forward import ExportedModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("runs") / "model", size=(64, 64))


@pytest.fixture(scope="module")
def onnx(folder):
    """A file for images of any size."""
    return export_model(folder, to="onnx", output=folder / "any.onnx", dynamic="both").path


@pytest.fixture(scope="module")
def fixed(folder):
    """An archive for one image of 64 × 64 pixels at a time, with preprocessing and softmax inside."""
    path = folder / "fixed.pt2"
    return export_model(
        folder, to="torch-export", output=path, dynamic="none", include_preprocessing=True, include_softmax=True
    ).path


def picture(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def check_same(one, other, image, *, atol=1e-4):
    expected = other.probabilities(image)
    torch.testing.assert_close(one.probabilities(image), expected, rtol=0, atol=atol)
    sure = expected.topk(2, dim=0).values.diff(dim=0)[0].abs().numpy() > 2 * atol
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(one(image).mask[sure], other(image).mask[sure])
    assert one(image).class_colors == other(image).class_colors


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("window", [64, (96, 40)])
def test_a_file_of_any_size_takes_any_window(folder, onnx, runtime, window):
    one = Segmenter(onnx, window=window, runtime=runtime, threads=1, scales=(0.8, 1), flip=True)
    other = Segmenter(folder, device="cpu", window=window, scales=(0.8, 1), flip=True)
    check_same(one, other, picture(100, 120))
    assert (one.model, one.ignore_index, one.short_side) == (None, other.ignore_index, other.short_side)


@pytest.mark.parametrize(("size", "atol"), [((100, 120), 1e-4), ((64, 64), 1e-4), ((60, 37), 5e-3)])
def test_a_file_of_one_size_takes_windows_of_that_size(folder, fixed, size, atol):
    """An image of (60, 37) is padded to (64, 64), by the model with 127.5, the mean, and for the file with 128."""
    check_same(Segmenter(fixed), Segmenter(folder, device="cpu"), picture(*size), atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", ["batch", "both"])
@pytest.mark.parametrize(("to", "ending"), [("onnx", "onnx"), ("openvino", "xml"), ("torch-export", "pt2")])
def test_every_format(folder, to, ending, dynamic):
    path = export_model(folder, to=to, output=folder / f"{dynamic}.{ending}", dynamic=dynamic).path
    check_same(Segmenter(path), Segmenter(folder, device="cpu"), picture(90, 130))


def test_bytes_are_padded_with_the_mean_color(fixed):
    pixels = torch.from_numpy(np.asarray(picture(50, 40)).copy()).permute(2, 0, 1)[None]
    padded = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    padded[..., :50, :40] = pixels
    file = ExportedModel(fixed)
    assert torch.equal(file(pixels), file(padded)[..., :50, :40])


def test_a_mean_that_is_no_color_is_padded_with_the_nearest(fixed):
    pixels = torch.from_numpy(np.asarray(picture(50, 40)).copy()).permute(2, 0, 1)[None]
    padded = torch.tensor([255, 0, 128], dtype=torch.uint8).reshape(1, 3, 1, 1).repeat(1, 1, 64, 64)
    padded[..., :50, :40] = pixels
    file = ExportedModel(fixed)
    file.info = replace(file.info, preprocessing=replace(file.info.preprocessing, mean=(1e6, -1.0, 0.5)))
    assert torch.equal(file(pixels), file(padded)[..., :50, :40])


def test_a_file_of_one_size_refuses_other_windows(fixed):
    with pytest.raises(ValueError, match=r"takes only windows of 64x64 pixels, not of 32x64: leave out the window, or"):
        Segmenter(fixed, window=(32, 64))


def test_predictor_and_segmenter_refuse_files_of_the_other_task(fixed, tmp_path):
    with pytest.raises(ValueError, match=r"fixed\.pt2 is a segmentation model; Predictor takes classification models"):
        Predictor(fixed)
    model = create_model("volo_micro_32", num_classes=2, dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2))
    preprocessing = {"size": [32, 32]}
    save_model(tmp_path, model.config, model.state_dict(), class_names=("a", "b"), preprocessing=preprocessing)
    path = export_model(tmp_path, to="torch-export", output=tmp_path / "classes.pt2").path
    with pytest.raises(
        ValueError, match=r"classes\.pt2 is a classification model; Segmenter takes segmentation models"
    ):
        Segmenter(path)
    assert Preprocessing(size=(32, 32)) == Predictor(ExportedModel(path)).preprocessing


def test_a_segmenter_checks_runtime_threads_and_device(folder, fixed):
    with pytest.raises(ValueError, match=r"openvino runs exported files: write one with"):
        Segmenter(folder, runtime="openvino")
    with pytest.raises(ValueError, match=r"fixed\.pt2 runs in torch-export, not in pytorch"):
        Segmenter(fixed, runtime="pytorch")
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        Segmenter(folder, threads=0)
    with pytest.raises(ValueError, match=r"runs on the CPU, not on cuda:0"):
        Segmenter(fixed, device="cuda:0")
