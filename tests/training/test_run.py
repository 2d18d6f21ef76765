import csv
import io
import json
import signal
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from pictures import save_blank
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

import volo
from volo.outputs import check_outputs
from volo.tasks.classification import ClassificationTask
from volo.tasks.losses import LossConfig
from volo.training.callbacks.problems import Problems
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


def make_config(images, folder, workers=0):
    return TrainConfig(
        data=DataConfig(path=str(images), workers=workers),
        model=ModelConfig(name="volo_micro_32", drop_path_rate=0.2),
        optim=OptimConfig(lr=1e-3, warmup_epochs=0.5, ema_decay=0.8),
        output=str(folder / "run"),
        epochs=3,
        batch_size=8,
        accelerator="cpu",
    )


@pytest.fixture
def config(image_folder, tmp_path, blank_pictures):
    return make_config(image_folder, tmp_path)


@pytest.fixture(scope="module", params=[0, 1], ids=lambda workers: f"{workers} workers")
def whole(request, kept_image_folder, tmp_path_factory):
    """A run that nothing interrupts, and the number of its loading processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        config = make_config(kept_image_folder, tmp_path_factory.mktemp("whole"), request.param)
        return volo.train(config), request.param


@pytest.fixture
def again(whole, kept_image_folder, tmp_path, blank_pictures):
    """The configuration of the whole run, for another folder."""
    return make_config(kept_image_folder, tmp_path, whole[1])


def weights(result):
    return load_file(result.folder / "model.safetensors")


def last_state(result):
    return torch.load(result.folder / "checkpoints/last.ckpt", weights_only=True)


def metrics(result):
    with (result.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def interrupt_at(monkeypatch, batch):
    """Press Ctrl-C while the given batch, counted from 0, is computed."""
    original, count = ClassificationTask.training_step, iter(range(10**6))

    def step(self, *arguments):
        if next(count) == batch:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(ClassificationTask, "training_step", step)


def test_a_run_learns_and_writes_all_its_files(image_folder, tmp_path):
    config = make_config(image_folder, tmp_path)
    result = volo.train(replace(config, epochs=8, optim=replace(config.optim, ema_decay=0.0)))
    assert result.evaluation.top1 == 1.0
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        ".volo-lock", ".volo-folder", "train.json", "metrics.csv", "curves.png", "summary.png",
        "results.json", "per_class.csv", "predictions.csv", "confusion.png", "reliability.png", "mistakes.png",
        "checkpoints", "model.safetensors", "config.json", "images.safetensors",
    }  # fmt: skip
    assert {path.name for path in (result.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for path in result.folder.rglob("[!.]*.*"):
        with pytest.raises(ValueError, match="belongs to a training run and is not overwritten"):
            check_outputs([path], overwrite=True)
    for picture in ("curves.png", "confusion.png", "summary.png"):
        assert len(set(Image.open(result.folder / picture).convert("L").tobytes())) > 10
    rows = metrics(result)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert json.loads((result.folder / "results.json").read_text())["top1"] == 1.0
    assert TrainConfig.load(result.folder / "train.json").epochs == 8

    predictor = volo.Predictor(result.folder)
    assert predictor(image_folder / "val/green/00.png").name == "green"


@pytest.mark.parametrize("whole", [0], indirect=True)
def test_neither_workers_nor_repetition_change_a_run(whole, again):
    repeated = volo.train(replace(again, data=replace(again.data, workers=2)))
    assert_same(weights(whole[0]), weights(repeated))


@pytest.mark.parametrize("whole", [0], indirect=True)
def test_another_seed_is_another_run(whole, again):
    other = volo.train(replace(again, seed=1))
    assert not torch.equal(weights(whole[0])["head.weight"], weights(other)["head.weight"])


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(whole, again, monkeypatch, batch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, batch)
        stopped = volo.train(again)
    assert stopped.stopped_by is signal.SIGINT
    assert last_state(stopped)["global_step"] == batch + 1
    resumed = volo.resume(stopped.folder)

    assert resumed.stopped_by is None
    one, two = last_state(whole[0]), last_state(resumed)
    assert one["global_step"] == two["global_step"] == 9
    for part in ("state_dict", "current_model_state"):
        assert_same(one[part], two[part])
    assert one["lr_schedulers"] == two["lr_schedulers"]
    for first, second in zip(metrics(whole[0]), metrics(resumed), strict=True):
        for figure in ("epoch", "step", "train_loss", "val_loss", "val_top1", "lr"):
            assert first[figure] == second[figure]


def test_an_interrupted_run_restores_the_terminal(config, monkeypatch):
    terminal = io.StringIO()
    interrupt_at(monkeypatch, 1)
    volo.train(config, console=Console(file=terminal, force_terminal=True))
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().count(hide) == terminal.getvalue().count(show) == 1


def test_a_resumed_balanced_run_ends_like_one_that_was_never_interrupted(config, tmp_path, monkeypatch, image_folder):
    for number in range(1, 7):
        (image_folder / f"train/blue/{number:02d}.png").unlink()
    config = replace(
        config, data=replace(config.data, balanced=True), loss=LossConfig(class_balance="effective"), epochs=2
    )
    expected = volo.train(config)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        stopped = volo.train(replace(config, output=str(tmp_path / "stopped")))
    assert last_state(stopped)["global_step"] == 3
    assert_same(weights(volo.resume(stopped.folder)), weights(expected))


def test_resuming_a_finished_run_changes_nothing(config):
    one = volo.train(config)
    before = weights(one)
    assert_same(before, weights(volo.resume(one.folder)))


def test_an_unreadable_image_is_named_once_and_counted(config, image_folder):
    (image_folder / "train/red/00.png").write_bytes(b"not an image")
    (image_folder / "val/red/00.png").write_bytes(b"nor this")
    console = Console(record=True, width=500, file=io.StringIO())
    result = volo.train(config, console=console)
    text = console.export_text()
    for part in ("train", "val"):
        assert text.count(f"warning: cannot read image {image_folder / part / 'red/00.png'}") == 1
    assert "2 unreadable images were left out" in text
    assert len(result.evaluation.labels) == 11
    assert len(result.evaluation.problems) == 1


def test_a_class_without_one_readable_image_is_named(config, image_folder):
    for path in [*(image_folder / "train/red").iterdir(), image_folder / "train/blue/00.png"]:
        path.write_bytes(b"not an image")
    console = Console(record=True, width=500, file=io.StringIO())
    volo.train(replace(config, epochs=1), console=console)
    last = console.export_text().splitlines()[-1]
    assert last == "warning: the model has learned nothing about 'red': none of the training images can be read"


@pytest.fixture
def first_run(config):
    """A run of one epoch whose user has given no batch and no warm-up."""
    return replace(config, epochs=1, batch_size=None, optim=OptimConfig(ema_decay=0.8))


def test_the_first_run_on_a_few_images_is_trained_and_told(first_run):
    console = Console(record=True, width=500, file=io.StringIO())
    folder = volo.train(first_run, console=console).folder
    text = console.export_text()
    for line in (
        "batch 8 (8 images × accumulate 1 × devices 1 × nodes 1), learning rate 0.001, 1 epochs, 3 optimizer steps "
        "(warm-up: 0)",
        "note: 24 training images take a batch of 8 instead of 64, a run of 1 epoch takes a warm-up of 0.1 instead of "
        "5; to choose yourself: --batch-size, --optim.warmup-epochs",
        "note: 24 images are few to train from scratch; pretrained weights usually give a better model: --model ",
        "warning: optim.ema_decay 0.8 is made for a longer run than 3 steps",
    ):
        assert text.count(line) == 1
    assert "left out" not in text

    stored = TrainConfig.load(folder / "train.json")
    assert (stored.batch_size, stored.optim.warmup_epochs) == (8, 0.1)
    again = {"batch_size": None, "optim": {"warmup_epochs": None}, "epochs": 1}
    assert volo.resume(folder, settings=again).evaluation is not None


def test_given_settings_are_used_and_images_left_out_are_counted_once(first_run):
    console = Console(record=True, width=500, file=io.StringIO())
    config = replace(first_run, batch_size=10, optim=OptimConfig(warmup_epochs=0.5))
    folder = volo.train(config, console=console).folder
    text = console.export_text()
    assert text.count("note: each epoch leaves out 4 of the 24 training images") == 1
    assert "instead of" not in text
    stored = TrainConfig.load(folder / "train.json")
    assert (stored.batch_size, stored.optim.warmup_epochs) == (10, 0.5)


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ({"warmup_steps": 3}, r"optim\.warmup_steps 3 leaves nothing of 3 steps \(1 epochs of 3\)"),
        ({"warmup_epochs": 0.9}, r"optim\.warmup_epochs 0\.9 leaves nothing of 3 steps"),
        ({"warmup_epochs": 0.5, "interval": "epoch"}, r"optim\.warmup_epochs 0\.5 leaves nothing of 3 steps"),
    ],
)
def test_a_warm_up_of_the_whole_run_is_refused_before_anything_is_written(first_run, tmp_path, optim, message):
    with pytest.raises(ValueError, match=message):
        volo.train(replace(first_run, optim=OptimConfig(**optim)))
    assert not (tmp_path / "run").exists()


def test_strict_makes_an_unreadable_image_an_error(config, image_folder):
    (image_folder / "train/red/00.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"red/00\.png.*not an image.*\(strict\)"):
        volo.train(replace(config, data=replace(config.data, strict=True)))


@pytest.mark.parametrize("workers", [0, 1])
def test_without_one_readable_training_image_the_run_is_refused(config, image_folder, workers):
    for path in (image_folder / "train").rglob("*.png"):
        path.write_bytes(b"")
    config = replace(config, data=replace(config.data, workers=workers))
    with pytest.raises(ValueError, match="not one of the training images can be read; cannot read image"):
        volo.train(config)


def test_a_folder_with_a_run_or_other_files_is_not_overwritten(config):
    result = volo.train(config)
    with pytest.raises(ValueError, match=f"--resume {result.folder}"):
        volo.train(config)
    for path in (result.folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match=f"exists and is not empty; .*, or resume the run in it with --resume {result.folder}"
    ):
        volo.train(config)


def test_a_run_that_failed_before_its_first_checkpoint_can_be_repeated(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Problems, "_note", lambda self, batch: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            volo.train(config)
    assert volo.train(config).evaluation is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 64}, "24 training images do not fill one batch of 64"),
        (
            {"accumulate": 4},
            r"24 training images do not fill one batch of 32 \(8 images × accumulate 4 × 1 processes\)",
        ),
        ({"accelerator": "abacus"}, "abacus"),
        ({"model": ModelConfig(name="volo_micro")}, None),
        ({"model": ModelConfig(name="volo_mikro_32")}, "did you mean 'volo_micro_32'"),
        ({"data": DataConfig(path="fashion-maxi")}, "did you mean 'fashion-mini'"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused_and_writes_nothing(config, tmp_path, change, message):
    config = replace(config, **change)
    if message is None:
        assert volo.train(config).evaluation is not None
        return
    with pytest.raises(ValueError, match=message):
        volo.train(config)
    assert not (tmp_path / "run").exists()


def test_one_class_only_is_refused(config, tmp_path):
    Image.new("RGB", (32, 32)).save((tmp_path / "one/cat").mkdir(parents=True) or tmp_path / "one/cat/a.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "one/cat/b.png")
    with pytest.raises(ValueError, match="has only one class, 'cat'"):
        volo.train(replace(config, data=DataConfig(path=str(tmp_path / "one"))))


def test_resuming_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run folder: .*train\.json"):
        volo.resume(tmp_path)


def test_gray_training_of_color_images_predicts_gray(config, image_folder):
    result = volo.train(replace(config, data=replace(config.data, channels=1)))
    predictor = volo.Predictor(result.folder)
    assert predictor.model.config.in_chans == 1
    assert len(predictor(image_folder / "val/red/00.png").names) == 3


def test_gradient_checkpointing_changes_no_result(config, tmp_path):
    short = replace(config, epochs=2, optim=replace(config.optim, ema_decay=0.0))
    saving = replace(short, model=replace(short.model, grad_checkpointing=True), output=str(tmp_path / "saving"))
    plain, checkpointed = weights(volo.train(short)), weights(volo.train(saving))
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("default")
def test_a_compiled_run_learns(config):
    result = volo.train(replace(config, epochs=8, compile=True))
    assert result.evaluation.top1 == 1.0
    assert not any("_orig_mod" in name for name in weights(result))
