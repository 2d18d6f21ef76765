"""A run knows its images: it resumes with the same ones only, and is evaluated on others."""

import io
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colors import make_images
from commands import volo as command
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pictures import save_blank
from PIL import Image
from rich.console import Console

import volo
from volo.data import DataSource, identity, open_splits
from volo.data.identity import data_root
from volo.tasks.classification import ClassificationTask
from volo.training import run_images
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.run_images import RunImages, find_trained_on, held_out_images, run_folder

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


def make_config(images, output):
    return TrainConfig(
        data=DataConfig(path=str(images), workers=0, val_fraction=0.25),
        model=ModelConfig(name="volo_micro_32", dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2)),
        optim=OptimConfig(lr=1e-3, warmup_epochs=0.0),
        output=str(output),
        epochs=4,
        batch_size=6,
        accelerator="cpu",
    )


def stop_after(monkeypatch, epochs):
    """Press Ctrl-C in the first batch of the epoch after so many; an epoch has three."""
    original, count = ClassificationTask.training_step, iter(range(10**6))

    def step(self, *arguments):
        if next(count) == 3 * epochs:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(ClassificationTask, "training_step", step)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with ``photos`` (3 × 8 images, undivided), a run that was stopped and a finished run on them."""
    root = tmp_path_factory.mktemp("made")
    make_images(root / "photos", 8, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        patch.chdir(root)
        with patch.context() as inner:
            stop_after(inner, 2)
            assert volo.train(make_config("photos", "runs/stopped")).stopped_by is signal.SIGINT
        volo.train(make_config("photos", "runs/whole"))
    return root


@pytest.fixture
def here(made, tmp_path, monkeypatch, blank_pictures):
    """A copy of it, current."""
    shutil.copytree(made, tmp_path / "here")
    for path in (tmp_path / "here/runs").glob("*/train.json"):
        path.write_text(path.read_text().replace(str(made), str(tmp_path / "here")))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def without_list(run):
    """Make a run look like that of an earlier version, which kept no list of its images and relative paths."""
    (run / "images.safetensors").unlink()
    for name in (LAST, BEST):
        state = torch.load(run / name, weights_only=True)
        del state["RunData"]
        torch.save(state, run / name)
    config = json.loads((run / "train.json").read_text())
    config["data"]["path"], config["output"] = "photos", f"runs/{run.name}"
    (run / "train.json").write_text(json.dumps(config))


# Resuming


def rename_a_class():
    os.rename("photos/blue", "photos/zebra")  # noqa: PTH104


def add_a_class():
    shutil.copytree("photos/blue", "photos/yellow")


def add_images():
    for name in ("a.png", "b.png"):
        shutil.copy("photos/blue/01.png", f"photos/blue/{name}")


def remove_images():
    for path in Path("photos").rglob("0[67].png"):
        path.unlink()


def swap_two_classes():
    os.rename("photos/blue", "away")  # noqa: PTH104
    os.rename("photos/red", "photos/blue")  # noqa: PTH104
    os.rename("away", "photos/red")  # noqa: PTH104


def replace_an_image():
    Image.new("RGB", (36, 40)).save("photos/red/03.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_a_class, "new are the classes zebra and gone are the classes blue"),
        (add_a_class, "new are the classes yellow"),
        (add_images, "2 of its images are new and 0 are gone"),
        (remove_images, "0 of its images are new and 6 are gone"),
        (swap_two_classes, "the content of 16 images has changed"),
        (replace_an_image, "the content of 1 images has changed"),
    ],
)
def test_other_images_are_refused(here, change, message):
    before = {path: path.read_bytes() for path in Path("runs/stopped").rglob("*") if path.is_file()}
    change()
    with pytest.raises(
        ValueError, match=f"photos has changed since the beginning of runs/stopped: {message}; restore it, or"
    ):
        volo.resume("runs/stopped")
    assert {path: path.read_bytes() for path in Path("runs/stopped").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_a_class, "new are the classes zebra and gone are the classes blue"),
        (add_a_class, "new are the classes yellow"),
        (lambda: make_images(Path("photos/blue"), 8, seed=9), "an epoch had 3 batches, and has"),
        (remove_images, "an epoch had 3 batches, and has 2 now"),
    ],
)
def test_what_can_be_known_of_a_run_of_an_earlier_version_is_compared(here, monkeypatch, change, message):
    monkeypatch.undo()
    monkeypatch.chdir(here)
    without_list(here / "runs/stopped")
    state = torch.load(here / "runs/stopped" / LAST, weights_only=True)
    assert "RunData" not in state
    # Stopped at the end of an epoch, as most runs are.
    progress = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    progress["is_last_batch"], progress["current"]["processed"] = True, 3
    torch.save(state, here / "runs/stopped" / LAST)
    change()
    with pytest.raises(ValueError, match=message):
        volo.resume("runs/stopped")


def end(run):
    """The scores of every epoch and the best weights."""
    rows = [line.rsplit(",", 2)[0] for line in (run / "metrics.csv").read_text().splitlines()]
    return rows, (run / "model.safetensors").read_bytes()


def printed_by_resuming(run, **options):
    console = Console(record=True, width=1000, file=io.StringIO())
    assert volo.resume(run, console=console, **options).stopped_by is None
    return console.export_text()


def test_a_run_of_an_earlier_version_resumes_with_a_note_from_any_folder(here, monkeypatch):
    without_list(here / "runs/stopped")
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    assert "note: the checkpoint is of an earlier version" in printed_by_resuming("../runs/stopped")
    assert end(here / "runs/stopped") == end(here / "runs/whole")
    assert (here / "runs/stopped/images.safetensors").exists()


def test_a_run_resumes_in_another_place_and_keeps_its_best_epoch(here, monkeypatch, tmp_path):
    os.rename("runs/stopped", tmp_path / "a moved run")  # noqa: PTH104
    monkeypatch.chdir(tmp_path)
    run, checkpoint = tmp_path / "a moved run", torch.load(tmp_path / "a moved run" / LAST, weights_only=True)
    # The best epoch is one of those before the stop.
    key = next(name for name in checkpoint["callbacks"] if name.startswith("ModelCheckpoint"))
    best = checkpoint["callbacks"][key]
    best["best_model_score"] = best["kth_value"] = torch.tensor(2.0)
    best["best_k_models"] = dict.fromkeys(best["best_k_models"], torch.tensor(2.0))
    torch.save(checkpoint, run / LAST)
    before = (run / BEST).read_bytes()
    assert "note:" not in printed_by_resuming(run)
    assert (run / BEST).read_bytes() == before
    assert end(run)[0] == end(here / "runs/whole")[0]


def test_a_run_without_its_best_epoch_keeps_the_best_of_the_coming_ones(here):
    (here / "runs/stopped" / BEST).unlink()
    volo.resume("runs/stopped")
    assert (here / "runs/stopped" / BEST).exists()


def test_a_finished_run_without_its_best_epoch_is_an_error(here):
    (here / "runs/whole" / BEST).unlink()
    with pytest.raises(ValueError, match=r"best.ckpt does not exist, and no epoch is left"):
        volo.resume("runs/whole")


def test_what_is_moved_together_is_found(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.rename(here, tmp_path / "there")  # noqa: PTH104
    volo.resume("there/runs/stopped")
    assert end(tmp_path / "there/runs/stopped") == end(tmp_path / "there/runs/whole")


def test_moved_images_are_named_and_compared(here, capsys):
    shutil.move("photos", "moved")
    assert command("train", "--resume", "runs/stopped") == 2
    assert capsys.readouterr().err == (
        f"volo train: the data of the run, {here / 'photos'}, are not found; if they were moved, name their folder: "
        "volo train FOLDER --resume runs/stopped\n"
    )
    make_images(here / "other", 8, seed=3)
    assert command("train", "other", "--resume", "runs/stopped") == 2
    assert "other does not hold the images of runs/stopped: the content of 24 images has" in capsys.readouterr().err
    assert command("train", "moved", "--resume", "runs/stopped") == 0
    assert end(here / "runs/stopped") == end(here / "runs/whole")
    assert json.loads((here / "runs/stopped/train.json").read_text())["data"]["path"] == str(here / "moved")
    assert command("eval", "runs/stopped", "moved") == 0
    assert "these are the 6 images held out" in capsys.readouterr().err


def test_moved_images_of_a_run_of_an_earlier_version_cannot_be_compared(here):
    without_list(here / "runs/stopped")
    shutil.copytree("photos", "moved")
    with pytest.raises(ValueError, match="kept no list of its images: whether those in moved are the same is unknown"):
        volo.resume("runs/stopped", settings={"data": {"path": "moved"}})


def test_the_same_data_by_another_path_are_the_same_setting(here, monkeypatch):
    Path("link").symlink_to(here / "photos")
    config = TrainConfig.load(here / "runs/whole/train.json")
    monkeypatch.chdir(here / "runs")
    volo.resume("whole", settings={"data": {"path": "../link"}})
    assert TrainConfig.load(here / "runs/whole/train.json") == config


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("name", [LAST, BEST])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Evil(), "holds posix.system, which could run code"),
        ({"state_dict": 3}, "is not a checkpoint of a run"),
        (None, "is "),
    ],
)
def test_a_checkpoint_that_is_none_is_one_line_without_bad_advice(here, capsys, name, content, reason):
    path = here / "runs/stopped" / name
    if content is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        torch.save(content, path)
    assert command("train", "--resume", "runs/stopped") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"volo train: runs/stopped/{name} cannot be resumed, since it {reason}")
    assert err.count("\n") == 1
    assert "weights_only" not in err
    assert not Path("ran").exists()


def test_a_damaged_list_of_images_in_a_checkpoint_is_an_error(here):
    state = torch.load(here / "runs/stopped" / LAST, weights_only=True)
    state["RunData"]["train"] = torch.tensor([[0.5]])
    torch.save(state, here / "runs/stopped" / LAST)
    with pytest.raises(ValueError, match="its list of the images of the run is damaged"):
        volo.resume("runs/stopped")


# Evaluating


def scores(folder):
    results = json.loads((Path(folder) / "results.json").read_text())
    return {name: results[name] for name in ("images", "trained_on", "top1", "loss", "balanced_accuracy", "intervals")}


@pytest.mark.parametrize("version", ["earlier", "this"])
def test_undivided_data_are_evaluated_on_what_training_held_out(here, capsys, version):
    if version == "earlier":
        without_list(here / "runs/whole")
    assert command("eval", "runs/whole", "photos", "--output=scores") == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "note: these are the 6 images held out from training; the model was trained on the other 18 in photos (--split "
        "all evaluates them, too)\n"
    )
    assert "6 images of 3 classes\n" in captured.out.replace("  ", "")
    assert scores("scores") == scores("runs/whole")
    assert scores("scores")["trained_on"] == 0


@pytest.mark.parametrize(
    ("model", "data", "split", "images", "trained_on"),
    [
        ("runs/whole", "photos", "all", 24, 18),
        ("runs/whole/model.safetensors", "photos", "all", 24, 18),
        ("runs/whole/checkpoints/best.ckpt", "photos", "all", 24, 18),
        ("runs/whole", "copy", "all", 24, 18),
        ("runs/whole", "divided", "train", 24, 18),
        ("runs/whole", "divided", "val", 3, 0),
        ("runs/whole", "divided/train", "all", 24, 18),
        ("runs/whole", "table.csv", "all", 24, 18),
        ("runs/whole", "other", "all", 24, 0),
        ("runs/whole", "more", "all", 27, 18),
        ("elsewhere", "photos", "all", 24, None),
    ],
)
def test_training_images_are_found(here, model, data, split, images, trained_on):
    shutil.copytree("photos", "copy")
    shutil.copytree("photos", "more")
    for color in ("blue", "green", "red"):
        Image.new("RGB", (36, 40), color).save(f"more/{color}/new.png")
    shutil.copytree("photos", "divided/train")
    make_images(Path("divided/val"), 1, seed=5)
    make_images(Path("other"), 8, seed=6)
    rows = [f"{path},{path.parent.name}" for path in sorted(Path("photos").rglob("*.png"))]
    Path("table.csv").write_text("\n".join(["path,label", *rows]))
    shutil.copytree("runs/whole", "elsewhere", ignore=lambda *_: {"train.json"})
    opened = open_splits(data)[split]()
    found = find_trained_on(model, opened, data_root(data, DataSource()))
    assert len(opened.labels) == images
    assert trained_on == (None if found is None else found.sum())


def test_of_more_images_only_some_contents_are_compared(here, monkeypatch):
    """Names tell copies then, if the content of those that are compared is the same."""
    for module in (identity, run_images):
        monkeypatch.setattr(module, "SAMPLED", 4)
    without_list(here / "runs/whole")  # made anew from the configuration, with four contents
    shutil.copytree("photos", "copy")
    shutil.copytree("photos", "divided/train")
    make_images(Path("other"), 8, seed=6)
    for data, count in (("photos", 18), ("copy", 18), ("other", 0), ("divided", 0)):
        opened = next(iter(open_splits(data).values()))()
        assert find_trained_on("runs/whole", opened, Path(data)).sum() == count


@pytest.mark.parametrize(("split", "images", "trained_on"), [(None, 9, 0), ("all", 27, 18)])
def test_new_images_are_evaluated_beside_those_that_were_held_out(here, capsys, split, images, trained_on):
    for color in ("blue", "green", "red"):
        Image.new("RGB", (36, 40), color).save(f"photos/{color}/new.png")
    chosen = [] if split is None else [f"--split={split}"]
    assert command("eval", "runs/whole", "photos", "--output=scores", *chosen) == 0
    captured = capsys.readouterr()
    assert (scores("scores")["images"], scores("scores")["trained_on"]) == (images, trained_on)
    assert ("27 images of 3 classes, 18 trained on" in captured.out) == bool(trained_on)
    assert ("warning: the model was trained on 18 of these 27 images" in captured.err) == bool(trained_on)


def test_of_data_that_training_has_seen_whole_all_images_are_evaluated_and_counted(here, capsys):
    make_images(Path("divided/val"), 2, seed=5)
    shutil.copytree("photos", "divided/train")
    volo.train(make_config("divided", "runs/other"))
    assert command("eval", "runs/other", "divided/train", "--output=scores") == 0
    assert (scores("scores")["images"], scores("scores")["trained_on"]) == (24, 24)
    assert "24 images of 3 classes, 24 trained on" in capsys.readouterr().out


def test_data_with_a_train_split_only_are_evaluated_on_what_training_held_out(here, capsys):
    shutil.copytree("photos", "only/train")
    volo.train(make_config("only", "runs/other"))
    assert command("eval", "runs/other", "only", "--output=scores") == 0
    assert scores("scores") == scores("runs/other")
    assert command("eval", "elsewhere", "only") == 2


def test_images_of_a_known_data_set_are_known_by_their_pixels(here, monkeypatch):
    train, val = (open_splits("fashion-mini")[split]() for split in ("train", "val"))
    train = replace(train, images=train.images[:30], labels=train.labels[:30])
    recorded = RunImages.of(train, val, Path())
    assert recorded.trained_on(train, Path(), Path()).all()
    assert not recorded.trained_on(val, Path(), Path()).any()


def test_a_run_whose_images_cannot_be_told_is_a_note(here, capsys):
    without_list(here / "runs/whole")
    for number in range(9):
        shutil.copy("photos/blue/01.png", f"photos/blue/{number}.png")
    assert command("eval", "runs/whole", "photos", "--output=scores") == 0
    assert "is unknown: its data are not as they were: other images would be held out now" in capsys.readouterr().err
    assert scores("scores")["trained_on"] is None


def test_the_held_out_images_in_python(here):
    images = held_out_images("runs/whole")
    assert volo.evaluate(volo.Predictor("runs/whole"), images).summary()["loss"] == scores("runs/whole")["loss"]
    add_images()
    with pytest.raises(
        ValueError, match="photos has changed since the beginning of runs/whole: 2 of its images are new"
    ):
        held_out_images("runs/whole")
    with pytest.raises(ValueError, match="photos is not a run folder"):
        held_out_images("photos")


def test_names_that_are_no_paths_have_no_run(here):
    assert run_folder("hf-hub:org/name") is run_folder("volo_tiny_32.cifar10") is run_folder("x" * 5000) is None
    images = open_splits("photos")["all"]()
    assert find_trained_on("volo_tiny_32.cifar10", images, Path("photos")) is None


@given(
    names=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True),
    train=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    val=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
)
def test_the_list_survives_file_and_checkpoint(tmp_path_factory, names, train, val):
    folder = tmp_path_factory.mktemp("list")
    keys = {"train": np.array(train, np.int64), "val": np.array(val, np.int64)}
    names = [name.encode("utf-8", "replace").decode() for name in names]
    one = RunImages(class_names=tuple(names), contents=np.arange(3), labels=np.arange(1), **keys)
    one.save(folder)
    for other in (RunImages.load(folder), RunImages.from_state(one.state())):
        assert one.difference(other) is None
        assert other.class_names == one.class_names
        assert other.train.tolist() == train


@pytest.mark.parametrize("damage", ["cut", "bytes", "empty", "other"])
def test_a_damaged_list_is_an_error(here, damage):
    path = Path("runs/whole/images.safetensors")
    whole = path.read_bytes()
    damaged = {"cut": whole[:-9], "bytes": b"x" * 99, "empty": b"", "other": whole.replace(b"val", b"lav")}
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"images.safetensors is damaged"):
        RunImages.load(Path("runs/whole"))
