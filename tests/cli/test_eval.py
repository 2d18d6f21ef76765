"""``volo eval``: the printed and written scores, and the warnings."""

import json
import shutil

import pytest
from commands import save_classifier, volo
from peers import timm_micro
from PIL import Image
from safetensors.torch import save_file

FILES = ["confusion.png", "mistakes.png", "per_class.csv", "predictions.csv", "reliability.png", "results.json"]


# Classification


def test_the_scores_of_a_classifier_are_printed_and_written(model_folder, image_folder, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert volo("eval", model_folder, image_folder, f"--output={out}") == 0
    captured = capsys.readouterr()
    for words in ("12 images of 3 classes", "balanced accuracy", "calibration error", "precision", "green", f"{out}"):
        assert words in captured.out
    assert captured.err == ""
    assert sorted(path.name for path in out.iterdir()) == [".volo-folder", *FILES]
    assert json.loads((out / "results.json").read_text())["images"] == 12


def test_of_many_classes_the_worst_and_the_best_are_printed_in_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = tuple(f"a rather long name of class {number:02d}" for number in range(60))
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "data" / name / "0.png")
    assert volo("eval", save_classifier(tmp_path / "model", names), tmp_path / "data") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    classes = [line for line in lines if line.startswith("│ a rather long")]
    assert len(classes) == 15
    assert all("%" in line.split("│")[4] and "…" not in line.split("│")[4] for line in classes)
    assert lines[-1] == "--output FOLDER writes the scores of all 60 classes"


def test_classes_without_images_are_a_warning(model_folder, image_folder, capsys):
    shutil.rmtree(image_folder / "val/green")
    assert volo("eval", model_folder, image_folder / "val") == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: 1 of the model's 3 classes have no images and so no score: green\n"
    assert "–" in captured.out


def test_a_folder_of_timm_is_evaluated(tmp_path, image_folder, capsys):
    three = timm_micro(num_classes=3)
    folder = tmp_path / "timm"
    folder.mkdir()
    save_file(three.state_dict(), folder / "model.safetensors")
    described = {
        "architecture": "x",
        "label_names": ["blue", "green", "red"],
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.875, "interpolation": "bicubic"},
    }
    (folder / "config.json").write_text(json.dumps(described))
    assert volo("eval", folder, image_folder) == 0
    assert "12 images" in capsys.readouterr().out


# Segmentation


def test_the_scores_of_a_segmenter_are_printed_and_written(segmenter, scenes, tmp_path, capsys):
    out = tmp_path / "out"
    settings = ["--window=[24,32]", "--stride=16", "--scales=[1,1.5]", "--flip", "--batch-size=2"]
    assert volo("eval", segmenter, scenes, f"--output={out}", *settings) == 0
    captured = capsys.readouterr()
    for words in (
        "3 images of 4 classes",
        "mean IoU",
        "pixel accuracy",
        "95 %",
        "IoU",
        "precision",
        "ground",
        f"{out}",
    ):
        assert words in captured.out
    assert captured.err == ""
    results = json.loads((out / "results.json").read_text())
    assert results["views"] == {
        "window": [24, 32], "stride": [16, 16], "scales": [1.0, 1.5], "flip": True, "batch_size": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("EXPORTED DATA --runtime openvino", "runs in torch-export, not in openvino"),
        ("MODEL DATA --threads 0", "threads must be at least 1, not 0"),
        ("MODEL DATA --among folder --real x", "--among, --real: only for classification models"),
        ("CLASSIFIER DATA --scales [1,2]", "--scales: only for segmentation models"),
        ("MODEL DATA --output FILE", "is a file; name a folder"),
        ("MODEL DATA --split test", "has no split 'test'"),
        ("MODEL EMPTY", ""),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(command, message, refused):
    assert message in refused("eval", command)
