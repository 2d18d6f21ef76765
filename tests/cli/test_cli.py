import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image

from volo.cli import MODULES, main
from volo.cli.training.demo import name_photos
from volo.data import AugmentConfig
from volo.data.embedded import PHOTOS
from volo.models import create_model, save_model
from volo.tasks.classification import ClassificationTask
from volo.training.config import TrainConfig


@pytest.fixture
def model_folder(tmp_path):
    """A model for the three colors that goes by the mean color of the image, and so is always right."""
    model = create_model("volo_micro_32", num_classes=3)
    folder = tmp_path / "model"
    folder.mkdir()
    preprocessing = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    save_model(
        folder,
        model.config,
        model.state_dict(),
        class_names=CLASSES,
        preprocessing=preprocessing,
    )
    return folder


CLASSES = ("blue", "green", "red")
TRAINING = ["--model.name=volo_micro_32", "--batch_size=8", "--data.workers=0", "--optim.warmup_epochs=0"]


def volo(*arguments):
    return main([str(argument) for argument in arguments])


def test_help_lists_every_verb_and_each_verb_explains_itself(capsys):
    assert volo("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in MODULES)
    for verb in MODULES:
        try:
            code = volo(verb, "--help")
        except SystemExit as stop:  # what jsonargparse makes of --help
            code = stop.code
        assert code == 0
        assert f"volo {verb}" in capsys.readouterr().out


def test_train_eval_predict(image_folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert volo("train", image_folder, f"--output={run}", "--epochs=8", *TRAINING) == 0
    out = capsys.readouterr().out
    assert "epoch 8/8" in out
    assert "top-1 100.00% on 12 validation images" in out

    assert volo("eval", run, image_folder, f"--output={tmp_path / 'judged'}") == 0
    assert re.search(r"top-1 +│ +100.00% │ +100.00% to 100.00%", capsys.readouterr().out)
    assert json.loads((tmp_path / "judged/results.json").read_text())["images"] == 12
    assert (tmp_path / "judged/confusion.png").stat().st_size > 1000

    assert volo("predict", run, image_folder / "val/red") == 0
    out = capsys.readouterr().out
    assert out.count("red ") >= 4


def test_predictions_as_json_and_csv_agree(model_folder, image_folder, tmp_path):
    for name in ("out.json", "out.csv"):
        assert volo("predict", model_folder, image_folder / "val", f"--output={tmp_path / name}", "--top_k=2") == 0
    records = json.loads((tmp_path / "out.json").read_text())
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(records) == 12
    assert len(rows) == 24
    for record, first in zip(records, rows[::2], strict=True):
        best = record["predictions"][0]
        assert record["image"] == first["image"]
        assert best["name"] == first["name"]
        assert best["probability"] == pytest.approx(float(first["probability"]), abs=1e-6)
        assert best["probability"] >= record["predictions"][1]["probability"]


def test_predict_takes_the_model_as_an_option_too(model_folder, image_folder, tmp_path, capsys):
    photo, folder = image_folder / "val/red/00.png", image_folder / "val/blue"
    names = ("first", "last", "middle")
    orders = ([model_folder, photo, folder], [photo, folder, "--model", model_folder], ["--model", model_folder, photo])
    for name, order in zip(names, orders, strict=True):
        assert volo("predict", *order, f"--output={tmp_path / name}.json") == 0
    first, last, middle = (json.loads((tmp_path / f"{name}.json").read_text()) for name in names)
    assert first == last
    assert middle == first[:1]
    capsys.readouterr()
    assert volo("predict", photo) == 2
    assert f"name images too: volo predict {photo} IMAGE…, or volo predict {photo} --model" in capsys.readouterr().err


def test_the_demonstration_names_the_photos_of_the_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    name_photos(tmp_path)
    out = capsys.readouterr().out
    assert all(str(tmp_path / "photos" / name) in out for name in PHOTOS)
    assert (tmp_path / "photos/CREDITS.txt").exists()
    with Image.open(tmp_path / "photos.png") as picture:
        assert picture.width > 1000


def test_predict_takes_files_folders_and_patterns(model_folder, image_folder, tmp_path):
    out = tmp_path / "out.json"
    names = [image_folder / "val/red/00.png", image_folder / "val/blue", f"{image_folder}/val/g*/0[12].png"]
    assert volo("predict", model_folder, *names, f"--output={out}") == 0
    assert len(json.loads(out.read_text())) == 1 + 4 + 2


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(image_folder, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    original = ClassificationTask.training_step

    def step(self, batch, batch_idx):
        if self.trainer.global_step == 4:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", step)
        assert volo("train", image_folder, f"--output={run}", "--epochs=3", *TRAINING) == 130
    assert f"volo train --resume {run}" in capsys.readouterr().err
    assert (run / "model.safetensors").exists()
    assert volo("train", "--resume", run) == 0
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 9


def test_predict_reads_names_of_files_from_standard_input(model_folder, image_folder, tmp_path, monkeypatch, capsys):
    names = [str(image_folder / "val/red" / f"{number:02d}.png") for number in range(3)]
    for data in ("\n".join(names), "\0".join(names)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode())))
        assert volo("predict", model_folder, "-", f"--output={tmp_path / 'out.json'}") == 0
        assert [record["image"] for record in json.loads((tmp_path / "out.json").read_text())] == names
    capsys.readouterr()
    for stdin in (None, io.TextIOWrapper(io.BytesIO(b""))):
        monkeypatch.setattr("sys.stdin", stdin)
        assert volo("predict", model_folder, "-") == 2
        assert capsys.readouterr().err.startswith("volo predict: standard input")


def test_too_large_an_image_is_left_out_unless_allowed(model_folder, image_folder, capsys):
    arguments = ("predict", model_folder, image_folder / "val/red")
    assert volo(*arguments, "--max-pixels=1439") == 2
    assert "(1440 pixels) exceeds limit of 1439 pixels; --max-pixels raises it" in capsys.readouterr().err
    assert volo(*arguments, "--max-pixels=1440") == 0


def test_a_model_of_other_channels_says_that_it_takes_no_files(tmp_path, image_folder, capsys):
    model, half = create_model("volo_micro_32", num_classes=3, in_chans=2), [0.5, 0.5]
    preprocessing = {"size": [32, 32], "mean": half, "std": half}
    save_model(tmp_path, model.config, model.state_dict(), class_names=CLASSES, preprocessing=preprocessing)
    for verb in ("predict", "eval"):
        assert volo(verb, tmp_path, image_folder / "val") == 2
        assert "not 2; give other inputs as arrays, in Python" in capsys.readouterr().err


def test_a_table_trains_and_is_judged_by_names_and_parts(image_folder, tmp_path, capsys):
    """A strongly imbalanced one of half-transparent images, on four channels and with all that makes up for it."""
    rows = ["path,label,split"]
    for part, count in (("train", 8), ("val", 4)):
        for name in CLASSES:
            for path in sorted((image_folder / part / name).iterdir())[: count if name == "red" else 1]:
                with Image.open(path) as image:
                    image.putalpha(128)
                    image.save(path)
                rows.append(f"colors/{path.relative_to(image_folder)},{name},{part}")
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(rows) + "\n")
    options = ["--data.channels=4", "--data.balanced=true", "--loss.class_balance=effective", "--epochs=1"]
    run = tmp_path / "run"
    assert volo("train", table, f"--output={run}", *TRAINING, *options) == 0
    assert "10 training and 6 validation images of 3 classes" in capsys.readouterr().out
    saved = json.loads((run / "config.json").read_text())
    assert (saved["class_names"], len(saved["preprocessing"]["mean"])) == (list(CLASSES), 4)
    assert volo("eval", run, table, "--split=train") == 0
    assert "10 images of 3 classes" in capsys.readouterr().out


def test_training_warns_of_strong_imbalance_unless_something_is_done(image_folder, tmp_path, capsys):
    for number in range(8, 10):
        shutil.copy(image_folder / "train/red/00.png", image_folder / f"train/red/{number}.png")
    for number in range(1, 8):
        (image_folder / f"train/blue/{number:02d}.png").unlink()
    arguments = ["train", image_folder, "--epochs=1", *TRAINING]
    assert volo(*arguments, f"--output={tmp_path / 'a'}") == 0
    assert "class 'red' has 10 times as many images as 'blue' (10 and 1); --data.balanced" in capsys.readouterr().out
    assert volo(*arguments, f"--output={tmp_path / 'b'}", "--data.balanced=true") == 0
    assert "times as many" not in capsys.readouterr().out


def test_data_check_reports_and_writes_sheets(image_folder, tmp_path, capsys):
    (image_folder / "val/red/bad.png").write_bytes(b"nothing")
    shutil.copy(image_folder / "train/blue/00.png", image_folder / "val/green/copy.png")
    assert volo("data", "check", image_folder, f"--output={tmp_path / 'out'}", "--workers=0") == 0
    out = capsys.readouterr().out
    for words in (
        "38 images of 3 classes",
        "unreadable: 1",
        "exact duplicates: 1 groups",
        "labels differ",
        "bad.png:",
    ):
        assert words in out
    assert json.loads((tmp_path / "out/check.json").read_text())["images"] == 38
    names = sorted(path.name for path in (tmp_path / "out/contact_sheets").iterdir())
    assert names == ["0000-blue.png", "0001-green.png", "0002-red.png"]
    assert volo("data", "check", image_folder, "--workers=0", "--strict") == 2
    assert "findings (--strict)" in capsys.readouterr().err


def test_the_configuration_of_a_run_is_a_recipe_and_options_override_it(tmp_path, capsys):
    recipe = tmp_path / "train.json"
    recipe.write_text(TrainConfig(augment=AugmentConfig(crop_scale=(0.3, 0.9)), batch_size=3).to_json())
    assert volo("train", "--batch_size=5", f"--recipe={recipe}", "--print_config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["batch_size"], printed["augment"]["crop_scale"]) == (5, [0.3, 0.9])


def test_what_print_config_prints_is_a_recipe_of_the_same_configuration(tmp_path, capsys):
    options = ["--recipe=volo-d2-384", "--model.drop_path_rate=0.3", "--loggers=[tensorboard]"]
    assert volo("train", "photos", *options, "--print_config") == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert (values["data"]["path"], values["model"]["drop_path_rate"]) == ("photos", 0.3)
    assert values["optim"]["lr"] == 8e-6
    (tmp_path / "printed.yaml").write_text(printed)
    assert volo("train", "--recipe", tmp_path / "printed.yaml", "--print_config") == 0
    assert capsys.readouterr().out == printed
    assert TrainConfig.from_dict(values).to_yaml() == printed


def test_going_on_with_the_same_command_is_right_and_with_another_lists_the_differences(image_folder, tmp_path, capsys):
    run = tmp_path / "run"
    command = [image_folder, f"--output={run}", "--epochs=2", *TRAINING]
    assert volo("train", *command) == 0
    weights = (run / "model.safetensors").read_bytes()
    assert volo("train", "--resume", run, *command, "--data.workers=1") == 0
    assert (run / "model.safetensors").read_bytes() == weights
    capsys.readouterr()

    assert volo("train", "--resume", run, "--epochs=4", "--model.drop_path_rate=0.1", f"--output={run}") == 2
    err = capsys.readouterr().err
    assert "another configuration: epochs 4 (the run: 2), model.drop_path_rate 0.1 (the run: None)" in err
    assert err.count("\n") == 1
    assert volo("train", "--resume", run, tmp_path) == 2
    assert f"data.path {str(tmp_path)!r} (the run: {str(image_folder)!r})" in capsys.readouterr().err
    recipe = tmp_path / "other.yaml"
    recipe.write_text("optim:\n  lr: 0.5\n")
    assert volo("train", f"--resume={run}", "--recipe", recipe) == 2
    assert "optim.lr 0.5 (the run: 0.001)" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        volo("train", tmp_path / "nowhere", "--debug")


def test_a_failure_of_ours_is_one_line_and_exit_code_1(model_folder, image_folder, monkeypatch, capsys):
    monkeypatch.setattr("volo.inference.Predictor.predict", lambda *a, **k: 1 / 0)
    assert volo("predict", model_folder, image_folder) == 1
    assert capsys.readouterr().err == "volo predict: ZeroDivisionError: division by zero (--debug shows where)\n"


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_missing_extra_is_named(verb, model_folder, image_folder):
    code = f"""
import sys
for name in ("pytorch_lightning", "timm", "torchmetrics", "matplotlib"):
    sys.modules[name] = None
from volo.cli import main
arguments = {{"train": [{str(image_folder)!r}], "eval": [{str(model_folder)!r}, {str(image_folder)!r}]}}
sys.exit(main([{verb!r}, *arguments[{verb!r}]]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "pip install 'volo[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_predicting_needs_no_extra(model_folder, image_folder):
    code = f"""
import sys
for name in ("pytorch_lightning", "timm", "torchmetrics", "matplotlib"):
    sys.modules[name] = None
from volo.cli import main
sys.exit(main(["predict", {str(model_folder)!r}, {str(image_folder / "val")!r}]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_models_lists_every_size(capsys):
    assert volo("models") == 0
    out = capsys.readouterr().out
    for words in ("volo_d1_224", "26.63", "volo_d5_512", "296.09", "volo_micro_32"):
        assert words in out


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert volo("demo", f"--output={folder}", "--epochs=1") == 0
    for name in ("photos.png", "curves.png", "from-scratch/summary.png", "fine-tuned/summary.png"):
        assert (folder / name).exists()
    out, err = capsys.readouterr()
    assert "Ankle boot" in out
    assert "first convolution adapted from 3 to 1 channels; heads of 10 other classes replaced" in err
    tops = [json.loads((folder / name / "results.json").read_text())["top1"] for name in ("from-scratch", "fine-tuned")]
    assert tops[1] > tops[0]
