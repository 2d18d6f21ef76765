"""``volo eval`` and ``volo compare``: what they print and write, and what they refuse."""

import json
import shutil

import pytest
import torch
from matplotlib.figure import Figure
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


def test_unreadable_images_are_named_and_counted(model_folder, image_folder, capsys):
    (image_folder / "val/red/00.png").write_text("nothing")
    assert volo("eval", model_folder, image_folder) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == captured.err.count("cannot read image") == 1
    assert "11 images of 3 classes, 1 unreadable" in captured.out


def places(tmp_path, model_folder, image_folder):
    """What can be wrong with data and output, by name."""
    (tmp_path / "file").write_text("text")
    more = shutil.copytree(image_folder / "val", tmp_path / "more")
    shutil.copytree(more / "red", more / "yellow")
    empty = shutil.copytree(image_folder / "val", tmp_path / "empty")
    for path in (empty / "red").iterdir():
        path.unlink()
    broken = shutil.copytree(image_folder / "val", tmp_path / "broken")
    for path in broken.rglob("*.png"):
        path.write_text("no picture")
    (tmp_path / "norun").mkdir()
    known = {"more": more, "empty": empty, "broken": broken, "good": image_folder, "model": model_folder}
    return {**known, "file": tmp_path / "file", "norun": tmp_path / "norun", "nowhere": tmp_path / "nowhere"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "{model}", "{more}"], "does not know the classes yellow (1 of the data's 4); it knows 3: blue"),
        (["eval", "{model}", "{empty}"], "no images in"),
        (["eval", "{model}", "{broken}"], "none of the 12 images can be read; the first: cannot read image"),
        (["eval", "{model}", "{good}", "--output={file}"], "file is a file; name a folder"),
        (["eval", "{model}", "{good}", "--output={file}/out"], "file is a file; name a folder"),
        (["eval", "{model}", "{broken}", "--output={nowhere}/out"], "none of the 12 images can be read"),
        (["eval", "{model}", "{good}", "--batch_size=0"], "--batch_size must be at least 1, not 0"),
        (["eval", "{model}", "{good}", "--workers=-1"], "--workers must be at least 0, not -1"),
        (["eval", "{model}", "{good}", "--outptu=a"], "did you mean '--output'"),
        (["compare"], "required"),
        (["compare", "{model}"], "name at least two different runs"),
        (["compare", "{norun}", "{nowhere}"], "norun is no run: it has no train.json; give folders that volo train"),
        (["compare", "{nowhere}", "{norun}"], "nowhere is no run: it does not exist"),
        (["compare", "{file}", "{norun}"], "file is no run"),
        (["compare", "{norun}", "{nowhere}", "--output=a.jpg"], "--output must end in .png, not 'a.jpg'"),
        (["compare", "{norun}", "{nowhere}", "--output={file}/a.png"], "file is a file; name a folder"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(
    tmp_path, model_folder, image_folder, capsys, arguments, message
):
    known = places(tmp_path, model_folder, image_folder)
    before = sorted(tmp_path.rglob("*"))
    code = volo(*(argument.format_map(known) for argument in arguments))
    captured = capsys.readouterr()
    assert code == 2, captured
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.out + captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_no_file(model_folder, image_folder, tmp_path, capsys, monkeypatch):
    def fail(figure, target, **options):
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    assert volo("eval", model_folder, image_folder, f"--output={tmp_path / 'out'}") == 2
    assert capsys.readouterr().err == "volo eval: [Errno 28] No space left on device\n"
    assert list((tmp_path / "out").iterdir()) == []


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
