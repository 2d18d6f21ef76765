"""``volo train``: from images to a model folder, interruption and resumption, and the configuration of a run."""

import json
import re
import shutil
import signal

import torch
import yaml
from commands import TRAINING, volo
from PIL import Image

from volo.data import AugmentConfig
from volo.tasks.classification import ClassificationTask
from volo.training.config import TrainConfig

CLASSES = ("blue", "green", "red")


def test_train_eval_predict(image_folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert volo("train", image_folder, f"--output={run}", "--epochs=8", *TRAINING) == 0
    out = capsys.readouterr().out
    assert "epoch 8/8" in out
    assert "top-1 100.00% on 12 validation images" in out

    assert volo("eval", run, image_folder, f"--output={tmp_path / 'evaluated'}") == 0
    assert re.search(r"top-1 +│ +100.00% │ +100.00% to 100.00%", capsys.readouterr().out)
    assert json.loads((tmp_path / "evaluated/results.json").read_text())["images"] == 12
    assert (tmp_path / "evaluated/confusion.png").stat().st_size > 1000

    assert volo("predict", run, image_folder / "val/red") == 0
    out = capsys.readouterr().out
    assert out.count("red ") >= 4


def test_ctrl_c_saves_prints_how_to_resume_and_exits_130(image_folder, tmp_path, monkeypatch, capsys):
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


def test_a_table_of_images_trains_and_is_evaluated_by_its_splits(image_folder, tmp_path, capsys):
    """A strongly imbalanced table of half-transparent images: four channels, balanced batches and class weights."""
    rows = ["path,label,split"]
    for split, count in (("train", 8), ("val", 4)):
        for name in CLASSES:
            for path in sorted((image_folder / split / name).iterdir())[: count if name == "red" else 1]:
                with Image.open(path) as image:
                    image.putalpha(128)
                    image.save(path)
                rows.append(f"colors/{path.relative_to(image_folder)},{name},{split}")
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(rows) + "\n")
    options = ["--data.channels=4", "--data.balanced=true", "--loss.class-balance=effective", "--epochs=1"]
    run = tmp_path / "run"
    assert volo("train", table, f"--output={run}", *TRAINING, *options) == 0
    assert "10 training and 6 validation images of 3 classes" in capsys.readouterr().out
    saved = json.loads((run / "config.json").read_text())
    assert (saved["class_names"], len(saved["preprocessing"]["mean"])) == (list(CLASSES), 4)
    assert volo("eval", run, table, "--split=train") == 0
    assert "10 images of 3 classes" in capsys.readouterr().out


def test_training_warns_of_strong_imbalance_unless_it_balances(image_folder, tmp_path, capsys):
    for number in range(8, 10):
        shutil.copy(image_folder / "train/red/00.png", image_folder / f"train/red/{number}.png")
    for number in range(1, 8):
        (image_folder / f"train/blue/{number:02d}.png").unlink()
    arguments = ["train", image_folder, "--epochs=1", *TRAINING]
    assert volo(*arguments, f"--output={tmp_path / 'a'}") == 0
    assert "class 'red' has 10 times as many images as 'blue' (10 and 1); --data.balanced" in capsys.readouterr().out
    assert volo(*arguments, f"--output={tmp_path / 'b'}", "--data.balanced=true") == 0
    assert "times as many" not in capsys.readouterr().out


def test_the_configuration_of_a_run_is_a_recipe_and_options_override_it(tmp_path, capsys):
    recipe = tmp_path / "train.json"
    recipe.write_text(TrainConfig(augment=AugmentConfig(crop_scale=(0.3, 0.9)), batch_size=3).to_json())
    assert volo("train", "--batch-size=5", f"--recipe={recipe}", "--print_config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["batch_size"], printed["augment"]["crop_scale"]) == (5, [0.3, 0.9])


def test_printed_configurations_are_recipes_of_the_same_configuration(tmp_path, capsys):
    options = ["--recipe=volo-d2-384", "--model.drop-path-rate=0.3", "--loggers=[tensorboard]"]
    assert volo("train", "photos", *options, "--print_config") == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert (values["data"]["path"], values["model"]["drop_path_rate"]) == ("photos", 0.3)
    assert values["optim"]["lr"] == 8e-6
    (tmp_path / "printed.yaml").write_text(printed)
    assert volo("train", "--recipe", tmp_path / "printed.yaml", "--print_config") == 0
    assert capsys.readouterr().out == printed
    assert TrainConfig.from_dict(values).to_yaml() == printed


def test_a_run_resumes_with_the_same_command_and_other_settings_are_listed(image_folder, tmp_path, capsys):
    run = tmp_path / "run"
    command = [image_folder, f"--output={run}", "--epochs=2", *TRAINING]
    assert volo("train", *command) == 0
    weights = (run / "model.safetensors").read_bytes()
    assert volo("train", "--resume", run, *command, "--data.workers=1") == 0
    assert (run / "model.safetensors").read_bytes() == weights
    capsys.readouterr()

    assert volo("train", "--resume", run, "--epochs=4", "--model.drop-path-rate=0.1", f"--output={run}") == 2
    err = capsys.readouterr().err
    assert "another configuration: epochs 4 (the run: 2), model.drop_path_rate 0.1 (the run: None)" in err
    assert err.count("\n") == 1
    assert volo("train", "--resume", run, image_folder / "val") == 2
    err = capsys.readouterr().err
    assert f"{image_folder / 'val'} does not hold the images of {run}: 12 of its images are new and" in err
    recipe = tmp_path / "other.yaml"
    recipe.write_text("optim:\n  lr: 0.5\n")
    assert volo("train", f"--resume={run}", "--recipe", recipe) == 2
    assert "optim.lr 0.5 (the run: 0.001)" in capsys.readouterr().err


def settings(capsys, *options):
    """The configuration that ``volo train`` prints for these options."""
    capsys.readouterr()
    assert volo("train", "fashion-mini", *options, "--print_config") == 0
    return TrainConfig.from_dict(yaml.safe_load(capsys.readouterr().out))


def test_short_forms_are_settings(capsys):
    options = (
        "--model volo_d1_224 --pretrained w.pth --image-size=64 --lr 0.1 --workers 3 --strict --download --palette"
    )
    config = settings(capsys, *options.split(), "--classes", "cat,dog", "--batch-size=5")
    assert (config.model.name, config.model.pretrained, config.model.img_size) == ("volo_d1_224", "w.pth", 64)
    assert (config.optim.lr, config.data.workers, config.batch_size) == (0.1, 3, 5)
    assert (config.data.strict, config.data.download, config.data.palette) == (True, True, True)
    assert config.data.classes == "cat,dog"


def test_the_image_size_of_segmentation_is_its_crop(capsys):
    assert settings(capsys, "--task=segmentation", "--image-size", "64x96").segmentation.crop == (64, 96)
    assert settings(capsys, "--image-size=64", "--task=segmentation").segmentation.crop == (64, 64)


def test_short_forms_override_a_recipe_wherever_they_stand(capsys):
    for options in (["--lr=0.5", "--recipe=fashion-mini"], ["--recipe", "fashion-mini", "--lr", "0.5"]):
        assert settings(capsys, *options).optim.lr == 0.5


def test_precisions_have_one_name(capsys):
    names = {"fp32": ["fp32", "32-true"], "bf16": ["bf16", "bf16-mixed", "bfloat16"], "fp16": ["fp16", "16-mixed"]}
    for name, spellings in names.items():
        assert {settings(capsys, f"--precision={each}").precision for each in spellings} == {name}


def test_configurations_of_earlier_versions_are_read_and_agree_with_todays_words():
    config = TrainConfig.from_dict({"precision": "bf16-mixed", "data": {"class_file": "classes.txt"}})
    assert (config.precision, config.data.classes) == ("bf16", "classes.txt")
    for words in ({"precision": "bf16-mixed"}, {"precision": "bf16"}, {"data": {"class_file": "classes.txt"}}):
        assert not config.differences(words)
    assert config.differences({"precision": "32-true"}) == {"precision": ("bf16", "fp32")}
