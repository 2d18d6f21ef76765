import csv
import io
import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

import volo
from volo.cli import main
from volo.data import IGNORE, AugmentConfig, SegmentationAugmentConfig
from volo.tasks.losses import LossConfig
from volo.tasks.segmentation import SegmentationTask
from volo.training.config import DataConfig, ModelConfig, OptimConfig, SegmentationSettings, TrainConfig
from volo.training.dry_run import dry_run
from volo.training.reports.compare import compare_runs

HEIGHT, WIDTH = 48, 64


def make_pairs(folder, count, *, seed):
    """Gray noise with a red and a green box; the frame is void."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        pixels, mask = rng.integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, left in ((1, 2), (2, 34)):
            top, left = rng.integers(2, 20), left + rng.integers(0, 8)
            box = slice(top, top + 20), slice(left, left + 20)
            pixels[(*box, label - 1)] += 130
            mask[box] = label
        mask[0] = IGNORE
        Image.fromarray(pixels).save(folder / "images" / f"{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02d}.png")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs") / "boxes"
    make_pairs(root / "train", 8, seed=0)
    make_pairs(root / "val", 4, seed=1)
    (root / "classes.txt").write_text("ground #808080\nred #ff0000\ngreen #00ff00\n")
    return root


@pytest.fixture
def config_with_pictures(pairs, tmp_path):
    return TrainConfig(
        task="segmentation",
        data=DataConfig(path=str(pairs), workers=0),
        model=ModelConfig(name="volo_micro_32", drop_path_rate=0.1),
        segmentation=SegmentationSettings(
            decoder_channels=16,
            crop=(HEIGHT, WIDTH),
            augment=SegmentationAugmentConfig(scale=(0.8, 1.2), photometric=0.0),
        ),
        optim=OptimConfig(schedule="poly", lr=2e-3, warmup_steps=2, min_lr=0.0, ema_decay=0.5, layer_decay=0.9),
        output=str(tmp_path / "run"),
        epochs=2,
        batch_size=4,
        accelerator="cpu",
    )


@pytest.fixture
def config(config_with_pictures, blank_pictures):
    return config_with_pictures


def rows(result):
    with (result.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_learns_and_writes_all_its_files(config, pairs):
    console = Console(record=True, width=1000, file=io.StringIO())
    result = volo.train(replace(config, epochs=24, optim=replace(config.optim, lr=4e-3)), console=console)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        ".volo-lock", ".volo-folder", "train.json", "metrics.csv", "curves.png", "results.json",
        "per_class.csv", "per_image.csv", "confusion.png", "worst.png", "checkpoints",
        "model.safetensors", "config.json", "images.safetensors",
    }  # fmt: skip
    assert result.evaluation.scores["miou"] > 0.6
    assert "volo_micro_32 with upernet" in (text := console.export_text())
    assert "8 training and 4 validation images of 3 classes" in text
    assert "mean IoU" in text
    table = rows(result)
    assert float(table[-1]["lr"]) < 4e-3 / 10
    best = max(float(row["val_miou"]) for row in table)
    assert json.loads((result.folder / "results.json").read_text())["miou"] == pytest.approx(best, abs=1e-3)

    trained = volo.load_segmenter(result.folder)
    assert trained.class_names == ("ground", "red", "green")
    assert trained.class_colors == ((128, 128, 128), (255, 0, 0), (0, 255, 0))
    assert trained.preprocessing["size"] == [HEIGHT, WIDTH]
    mask = volo.Segmenter(result.folder)(pairs / "val/images/00.png").mask
    assert (mask == np.asarray(Image.open(pairs / "val/masks/00.png")))[1:].mean() > 0.7


@pytest.mark.parametrize("batch", [0, 2])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(config, tmp_path, monkeypatch, batch):
    whole = volo.train(replace(config, output=str(tmp_path / "whole")))
    original, count = SegmentationTask.training_step, iter(range(100))

    def step(self, *arguments):
        if next(count) == batch:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", step)
        assert volo.train(config).stopped_by is signal.SIGINT
    resumed = volo.resume(config.output)
    one, other = (load_file(result.folder / "model.safetensors") for result in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_undivided_pairs_are_evaluated_on_what_training_held_out(config, pairs, tmp_path, capsys):
    for name in ("images", "masks"):
        shutil.copytree(pairs / "train" / name, tmp_path / "undivided" / name)
    shutil.copy(pairs / "classes.txt", tmp_path / "undivided")
    data = replace(config.data, path=str(tmp_path / "undivided"), val_fraction=0.25)
    run = volo.train(replace(config, data=data, batch_size=2, epochs=1))
    for split, images, trained_on in ((), 2, 0), (("--split=all",), 8, 6):
        out = tmp_path / f"scores-{images}"
        assert main(["eval", str(run.folder), str(tmp_path / "undivided"), f"--output={out}", *split]) == 0
        results = json.loads((out / "results.json").read_text())
        assert (results["images"], results["trained_on"]) == (images, trained_on)
        captured = capsys.readouterr()
        assert ("6 trained on" in captured.out) == ("trained on 6 of these 8" in captured.err) == bool(split)
    before, now = (json.loads((folder / "results.json").read_text()) for folder in (run.folder, tmp_path / "scores-2"))
    assert {name: before[name] for name in ("miou", "pixel_accuracy", "iou")} == {
        name: now[name] for name in ("miou", "pixel_accuracy", "iou")
    }
    (tmp_path / "undivided/masks/00.png").write_bytes((tmp_path / "undivided/masks/01.png").read_bytes())
    with pytest.raises(ValueError, match="its labels or masks have changed"):
        volo.resume(run.folder)


def test_the_backbone_can_be_frozen(config_with_pictures):
    config = config_with_pictures
    frozen = replace(
        config,
        epochs=1,
        model=ModelConfig(name="volo_micro_32", freeze=True),
        optim=replace(config.optim, layer_decay=1.0, warmup_steps=0, ema_decay=0.0),
    )
    result = volo.train(frozen)
    for picture in ("curves.png", "confusion.png", "worst.png"):
        assert len(set(Image.open(result.folder / picture).convert("L").tobytes())) > 10
    weights = volo.load_segmenter(result.folder).model.state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(frozen.seed)
        fresh = volo.create_segmenter(
            "volo_micro_32", num_classes=3, decoder_channels=16, img_size=(64, 64)
        ).state_dict()
    moved = {name for name in fresh if not torch.equal(weights[name], fresh[name])}
    assert moved
    assert not [name for name in moved if name.startswith("backbone.volo.")]


def test_runs_are_compared(config, tmp_path, image_folder):
    folders = [volo.train(replace(config, seed=s, output=str(tmp_path / f"{s}"))).folder for s in (0, 1)]
    comparison = compare_runs(folders)
    assert comparison.runs[0].parameters == sum(p.numel() for p in volo.load_segmenter(folders[0]).model.parameters())
    assert comparison.runs[0].best["val_miou"] == max(row["val_miou"] for row in comparison.runs[0].rows)
    assert main(["compare", *map(str, folders), "--output", str(tmp_path / "compared.png")]) == 0
    other = tmp_path / "classes"
    other.mkdir()
    (other / "train.json").write_text("{}")
    with pytest.raises(ValueError, match="0 is a segmentation run and classes a classification run"):
        compare_runs([folders[0], other])


def test_a_dry_run_generates_images_if_the_data_are_not_available(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console = Console(record=True, width=1000, file=io.StringIO())
    result = dry_run(replace(config, data=DataConfig(path="camvid", workers=0), sync_batchnorm=True), console=console)
    text = console.export_text()
    assert "camvid is not available: generated images are used instead, 367 for training and 101 for validation" in text
    assert "of 480x360 pixels and 11 classes" in text
    assert "no GPU is available: every process normalizes over its own batch" in text
    assert result.memory > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segmentaton"}, "unknown task 'segmentaton'; did you mean 'segmentation'"),
        ({"task": "classification"}, "segmentation.* are settings of --task segmentation"),
        ({"loss": LossConfig(mix_token=False)}, "loss: settings of classification; segmentation has"),
        ({"augment": AugmentConfig(hflip=0.0)}, "augment: settings of classification"),
        ({"model": ModelConfig(img_size=64)}, "model.img_size: settings of classification"),
        ({"data": DataConfig(balanced=True)}, "data.balanced: settings of classification"),
        ({"batch_size": 1}, "batch_size must be at least 2, or sync_batchnorm true"),
    ],
)
def test_settings_that_the_task_does_not_know_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": (16, 64)}, "crop must be a height and a width of at least 32 pixels"),
        ({"aux_weight": -1.0}, "aux_weight must be at least 0, not -1"),
        ({"decoder": "unet", "decoder_channels": 4}, "unet has maps of fixed widths"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SegmentationSettings(**changes)


def test_the_warm_up_must_leave_steps_for_the_decay(config):
    with pytest.raises(ValueError, match=r"optim\.warmup_steps 4 leaves nothing of 4 steps"):
        volo.train(replace(config, optim=replace(config.optim, warmup_steps=4)))


def as_in_evaluation():
    """Keep BatchNorm, whose statistics differ between processes, and the heads' dropout in evaluation mode."""
    original = SegmentationTask.on_train_batch_start

    def start(self, batch, batch_idx):
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout2d):
                module.eval()
        original(self, batch, batch_idx)

    SegmentationTask.on_train_batch_start = start


def test_two_processes_follow_the_curve_of_one(pairs, tmp_path):
    """One process validates two images, the other one; all images have equally many pixels that are not ignored."""
    data = tmp_path / "boxes"
    shutil.copytree(pairs, data)
    for part in ("images", "masks"):
        (data / "val" / part / "03.png").unlink()
    options = (
        "--task=segmentation", "--model.name=volo_micro_32", "--model.drop_path_rate=0", "--accelerator=cpu",
        "--data.workers=0", "--segmentation.decoder_channels=16", f"--segmentation.crop=[{HEIGHT},{WIDTH}]",
        "--segmentation.augment.scale=[1,1]", "--optim.warmup_steps=1", "--epochs=2",
    )  # fmt: skip
    command = ("train", data, f"--output={tmp_path / 'one'}", *options, "--batch_size=4")
    code, printed = processes.volo(tmp_path, *command, prepare=as_in_evaluation)
    assert code == 0, printed
    command = ("train", data, f"--output={tmp_path / 'two'}", *options, "--batch_size=2", "--strategy=ddp")
    codes, printed = processes.together(tmp_path, 2, *command, prepare=as_in_evaluation)
    assert codes == (0, 0), printed
    one, two = (processes.rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == 2
    for alone, together in zip(one, two, strict=True):
        assert {name: float(value) for name, value in together.items()} == pytest.approx(
            {name: float(value) for name, value in alone.items()}, rel=1e-4, abs=1e-5
        )
