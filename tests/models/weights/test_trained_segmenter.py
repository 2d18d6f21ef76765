import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import volo
from volo.models import create_segmenter, load_segmenter, save_model, save_segmenter, task_of

COLORS = ((0, 0, 0), (255, 128, 0), (1, 2, 3))
KNOWN = {
    "class_names": ("road", "sky", "tree"),
    "class_colors": COLORS,
    "ignore_index": 255,
    "preprocessing": {"size": (64, 96), "mean": (0.5, 0.5, 0.5)},
    "short_side": 120,
}


@pytest.fixture
def model():
    return create_segmenter("volo_micro_32", num_classes=3, img_size=(64, 96), decoder_channels=16).eval()


@pytest.fixture
def folder(model, tmp_path):
    (tmp_path / "run").mkdir()
    save_segmenter(tmp_path / "run", model.config, model.state_dict(), **KNOWN)
    return tmp_path / "run"


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_saved_is_loaded(model, folder):
    trained = load_segmenter(folder)
    assert not trained.model.training
    images = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert_close(trained.model(images), model(images))
    assert (trained.class_names, trained.class_colors) == (KNOWN["class_names"], COLORS)
    assert (trained.ignore_index, trained.short_side) == (255, 120)
    assert trained.preprocessing == {"size": [64, 96], "mean": [0.5, 0.5, 0.5]}
    assert task_of(folder) == "segmentation"


def test_half_precision_is_widened(model, folder):
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors")
    loaded = load_segmenter(folder).model.state_dict()
    assert_close(loaded, model.state_dict(), rtol=1e-3, atol=1e-4)


def test_neither_kind_of_model_is_taken_for_the_other(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"is a segmentation model, not a classifier; .* volo\.load_segmenter reads it"
    ):
        volo.load_model(folder)
    with pytest.raises(ValueError, match="is a segmentation model, not a classifier"):
        volo.create_model("volo_micro_32", pretrained=folder)
    classifier = volo.create_model("volo_micro_32", num_classes=3)
    (tmp_path / "other").mkdir()
    names = KNOWN["class_names"]
    save_model(
        tmp_path / "other",
        classifier.config,
        classifier.state_dict(),
        class_names=names,
        preprocessing={"size": (32, 32)},
    )
    assert "task" not in json.loads((tmp_path / "other/config.json").read_text())  # written as ever
    assert task_of(tmp_path / "other") == task_of(classifier) == "classification"
    with pytest.raises(ValueError, match=r"is no segmentation model"):
        load_segmenter(tmp_path / "other")


def test_what_does_not_fit_is_said_in_one_line(model, folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in weights.items() if name != "head.1.bias"}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the architecture in config\.json: .* lacks head\.1\.bias"):
        load_segmenter(folder)
    save_file({**weights, "more": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="it has 1 others"):
        load_segmenter(folder)
    change(folder, task="detection")
    with pytest.raises(
        ValueError, match="its task is 'detection', and this volo knows classification and segmentation"
    ):
        load_segmenter(folder)
    change(folder, task="segmentation", segmentation={"num_classes": 3, "decoder": "upernet"})
    with pytest.raises(ValueError, match="does not describe a segmentation model"):
        load_segmenter(folder)


def test_names_and_colors_must_be_as_many_as_classes(model, tmp_path):
    with pytest.raises(ValueError, match="3 classes need as many names and colors, not 2 and 3"):
        save_segmenter(tmp_path, model.config, model.state_dict(), **{**KNOWN, "class_names": ("road", "sky")})
    assert not list(tmp_path.iterdir())
