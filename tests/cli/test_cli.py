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

from volo.cli import VERBS, main
from volo.data import AugmentConfig
from volo.models import create_model, save_model
from volo.tasks.classification import ClassificationTask
from volo.training.config import TrainConfig


@pytest.fixture
def model_folder(tmp_path):
    """A model for the three colours that goes by the mean colour of the image, and so is always right."""
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
    assert all(verb in text for verb in VERBS)
    for verb in VERBS:
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


def test_predict_takes_files_folders_and_patterns(model_folder, image_folder, tmp_path):
    out = tmp_path / "out.json"
    names = [image_folder / "val/red/00.png", image_folder / "val/blue", f"{image_folder}/val/g*/0[12].png"]
    assert volo("predict", model_folder, *names, f"--output={out}") == 0
    assert len(json.loads(out.read_text())) == 1 + 4 + 2


def test_an_unreadable_image_is_a_warning_and_with_strict_an_error(model_folder, image_folder, tmp_path, capsys):
    bad = image_folder / "val/red/bad.png"
    bad.write_bytes(b"nothing")
    assert volo("predict", model_folder, image_folder / "val/red", f"--output={tmp_path / 'a.json'}") == 0
    err = capsys.readouterr().err
    assert f"cannot read image {bad}" in err
    assert "1 of 5 images could not be read" in err
    assert volo("predict", model_folder, bad.parent, f"--output={tmp_path / 'b.json'}", "--strict") == 2
    assert not (tmp_path / "b.json").exists()
    assert volo("eval", model_folder, image_folder) == 0
    assert volo("eval", model_folder, image_folder, "--strict") == 2


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


def broken(tmp_path, kind):
    """A folder with one thing wrong."""
    root = tmp_path / kind
    pixel = Image.new("RGB", (32, 32))
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            pixel.save(root / part / name / "a.png")
    if kind == "class without images":
        (root / "train/emu").mkdir()
        (root / "val/emu").mkdir()
    elif kind == "class missing from validation":
        (root / "val/dog/a.png").unlink()
        (root / "val/dog").rmdir()
    return root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "name a folder"),
        (["train", "{nowhere}"], "no folder, table or data set is named"),
        (["train", "{file}"], "is a file"),
        (["train", "{empty}"], "has no class folders"),
        (["train", "{class without images}"], "no images in"),
        (["train", "{class missing from validation}"], "lacks the classes dog"),
        (["train", "{good}", "--epoch=3"], "unknown option --epoch; did you mean '--epochs'"),
        (["train", "{good}", "--model.drop_path=0.3"], "'--model.drop_path_rate'"),
        (["train", "{good}", "--epochs=many"], "epochs"),
        (["train", "{good}", "--epochs=0"], "epochs must be at least 1"),
        (["train", "{good}", "--model.name=volo_d9"], "unknown model 'volo_d9'"),
        (["train", "{good}", "--output={file}/run", "--batch_size=1", "--model.name=volo_micro_32"], "file"),
        (["train", "{good}", "--recipe=fashion_mini"], "did you mean 'fashion-mini'"),
        (["train", "{good}", "--recipe={recipe}"], "unknown setting 'modle.name'; did you mean 'model.name'"),
        (["train", "{good}", "--recipe={setting}"], "'model.drop_path'; did you mean 'model.drop_path_rate'"),
        (["train", "{good}", "--recipe=volo-d1-224", "--modle.name=volo_d2"], "'--model.name'"),
        (["train", "{good}", "--batch_size=64", "--model.name=volo_micro_32"], "do not fill one batch of 64"),
        (["train", "{good}", "--loss.dense_weight=0"], "MixToken needs the token loss"),
        (["train", "{good}", "--model.freeze=true", "--optim.layer_decay=0.7"], "leave out optim.layer_decay"),
        (["train", "{good}", "--model.freeze=true", "--model.drop_path_rate=0.1"], "leave out model.drop_path_rate"),
        (["train", "{good}", "--model.pretrained=x", "--model.dims=[64,128]"], "leave out model.dims"),
        (["train", "{good}", "--precision=16-mxied"], "unknown precision '16-mxied'; did you mean '16-mixed'"),
        (["train", "{good}", "--loggers=[wanbd]"], "unknown logger 'wanbd' in loggers; did you mean 'wandb'"),
        (["train", "{good}", "--optim.interval=week"], "optim.interval"),
        (["train", "{good}", "--dry-run", "--profile"], "--dry-run keeps nothing"),
        (["train", "{good}", "--dry_run"], "did you mean '--dry-run'"),
        (["train", "--recipe=volo-d1-224"], "is named 'imagenet'"),
        (["recipes", "volo-d1-225"], "did you mean 'volo-d1-224'"),
        (["train", "--resume", "{empty}"], "holds no run"),
        (["eval", "{empty}", "{good}"], "is no trained model"),
        (["eval", "{nowhere}", "{good}"], "cannot be read"),
        (["eval", "{model}", "{good}"], "does not know the classes cat, dog"),
        (["eval", "{model}"], "required"),
        (["predict", "{model}", "{nowhere}"], "neither a file, a folder nor a pattern"),
        (["predict", "{model}", "{empty}"], "has no images"),
        (["predict", "{file}", "{good}"], "is no file of weights"),
        (["predict", "{model}", "{good}", "--output=a.txt"], ".json or .csv"),
        (["predict", "{model}", "{good}", "--top_k=0"], "at least 1"),
        (["predict", "{model}", "{good}", "--max-pixels=0"], "at least 1"),
        (["train", "{table}"], "has no column named label or class"),
        (["train", "{table}", "--data.label-column=name"], "has no column 'name'; did you mean 'names'"),
        (["train", "cifar10", "--data.root={empty}"], "cifar10 is not, or not whole, in"),
        (["train", "{good}", "--data.channels=2"], "data.channels must be 1 (grey), 3 (colour) or 4"),
        (["train", "{good}", "--loss.class_balance=invers"], "class_balance"),
        (["eval", "{model}", "{table}", "--label_column=names"], "does not know the classes cat"),
        (["eval", "{model}", "{good}", "--split=test"], "has no part 'test'; there are: train, val"),
        (["eval", "{model}", "mnist", "--root={empty}"], "let torchvision fetch it by --download"),
        (["data", "check", "{nowhere}"], "no folder, table or data set is named"),
        (["data", "chekc", "{good}"], "unknown command 'chekc'"),
        (["data", "check", "{good}", "--distance=99"], "must be 0–16"),
        (["data", "check", "{good}", "--strict"], "findings (--strict)"),
        (["data", "check", "{good}", "--output={file}"], "is a file; name a folder"),
        (["predict", "{model}", "{good}", "--device=abacus"], "abacus"),
        (["predict", "{model}", "{good}", "--topk=3"], "did you mean '--top_k'"),
        (["models", "--all"], "--all"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(tmp_path, model_folder, capsys, arguments, message):
    places = {
        "nowhere": tmp_path / "nowhere",
        "empty": tmp_path / "empty",
        "file": tmp_path / "file",
        "model": model_folder,
        "recipe": tmp_path / "recipe.yaml",
        "setting": tmp_path / "setting.yaml",
        **{kind: broken(tmp_path, kind) for kind in ("good", "class without images", "class missing from validation")},
    }
    places["empty"].mkdir()
    places["file"].write_text("text")
    places["table"] = tmp_path / "photos.csv"
    places["table"].write_text(f"path,names\n{tmp_path}/good/train/cat/a.png,cat\n")
    places["recipe"].write_text("modle:\n  name: volo_micro_32\n")
    places["setting"].write_text("model:\n  drop_path: 0.1\n")
    before = sorted(tmp_path.rglob("*"))
    code = volo(*(argument.format_map(places) for argument in arguments))
    captured = capsys.readouterr()
    assert code == 2, captured
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.out + captured.err
    assert sorted(tmp_path.rglob("*")) == before


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
                rows.append(f"colours/{path.relative_to(image_folder)},{name},{part}")
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
    assert volo("demo", f"--output={tmp_path / 'demo'}", "--epochs=1") == 0
    assert (tmp_path / "demo/summary.png").exists()
    assert "Ankle boot" in capsys.readouterr().out
