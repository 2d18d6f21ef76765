"""``volo eval`` and ``volo compare``: what they print and write, and what they refuse."""

import json
import shutil

import pytest
import torch
from PIL import Image

from volo.cli import main
from volo.models import create_model, save_model

PREPROCESSING = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
FILES = ["confusion.png", "mistakes.png", "per_class.csv", "predictions.csv", "reliability.png", "results.json"]


def volo(*arguments):
    return main([str(argument) for argument in arguments])


def save(folder, class_names):
    """An untrained model."""
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=len(class_names))
    folder.mkdir()
    save_model(folder, model.config, model.state_dict(), class_names=class_names, preprocessing=PREPROCESSING)
    return folder


@pytest.fixture
def model_folder(tmp_path):
    return save(tmp_path / "model", ("blue", "green", "red"))


def test_eval_prints_and_writes_the_scores(model_folder, image_folder, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert volo("eval", model_folder, image_folder, f"--output={out}") == 0
    captured = capsys.readouterr()
    for words in ("12 images of 3 classes", "balanced accuracy", "calibration error", "precision", "green", f"{out}"):
        assert words in captured.out
    assert captured.err == ""
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert json.loads((out / "results.json").read_text())["images"] == 12


def test_of_many_classes_the_worst_and_the_best_are_printed_in_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = tuple(f"a rather long name of class {number:02d}" for number in range(60))
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "data" / name / "0.png")
    assert volo("eval", save(tmp_path / "model", names), tmp_path / "data") == 0
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


def test_compare_prints_a_table_and_writes_picture_and_json(tmp_path, image_folder, capsys):
    settings = ["--model.name=volo_micro_32", "--batch_size=8", "--data.workers=0", "--optim.warmup_epochs=0"]
    runs = [tmp_path / name for name in ("one", "two")]
    assert volo("train", image_folder, f"--output={runs[0]}", "--epochs=1", *settings) == 0
    shutil.copytree(*runs)
    config = json.loads((runs[1] / "train.json").read_text())
    (runs[1] / "train.json").write_text(json.dumps({**config, "epochs": 2}))
    capsys.readouterr()
    assert volo("compare", *runs, f"--output={tmp_path / 'both.png'}") == 0
    captured = capsys.readouterr()
    for words in ("one", "two", "finished", "top-1", "top-1 against one", "p = ", "0.98 M", "epochs"):
        assert words in captured.out
    assert captured.err == ""
    values = json.loads((tmp_path / "both.json").read_text())
    assert values["settings"] == {"epochs": [1, 2]}
    assert values["against_the_first"][0]["images"] == 12
    assert (tmp_path / "both.png").stat().st_size > 10_000
