"""``volo label``, from the labels to a model trained on them, and the errors."""

import shutil

import pytest
import torch
from commands import TRAINING, volo
from PIL import Image

from volo.data.token_labels.store import TokenLabelStore

SETTINGS = [*TRAINING, "--epochs=1", "--accelerator=cpu"]


@pytest.fixture
def store(image_folder, model_folder, tmp_path, capsys):
    out = tmp_path / "labels"
    assert volo("label", image_folder, "--teacher", model_folder, "--output", out, "--top-k=2") == 0
    assert f"24 images labeled; the labels are in {out}" in capsys.readouterr().out.replace("\n", " ")
    return out


def test_label_check_show_and_train(image_folder, store, tmp_path, capsys):
    assert volo("label", image_folder, "--output", store, "--check") == 0
    out = capsys.readouterr().out
    assert "24 images, 4×4 cells, 2 of 3 classes each, by " in out
    assert "24 labeled, 0 cannot be read, 0 not labeled yet" in out
    picture = tmp_path / "show.png"
    assert volo("label", image_folder, "--output", store, "--show", picture, "--size=32", "--count=2") == 0
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    capsys.readouterr()
    options = ["--data.token-labels", store, "--loss.ground-truth=true", f"--output={tmp_path / 'run'}"]
    assert volo("train", image_folder, *options, *SETTINGS) == 0
    assert "best epoch" in capsys.readouterr().out
    # The loss is that of the teacher's soft labels, not of the images' own.
    assert volo("train", image_folder, f"--output={tmp_path / 'plain'}", *SETTINGS) == 0
    rows = [(tmp_path / run / "metrics.csv").read_text().splitlines()[1].split(",") for run in ("run", "plain")]
    assert float(rows[0][2]) != pytest.approx(float(rows[1][2]), rel=1e-3)


def test_check_lists_changes_and_training_refuses_changed_data(image_folder, store, tmp_path, capsys):
    shutil.copy(image_folder / "train/red/00.png", image_folder / "train/red/new.png")
    assert volo("label", image_folder, "--output", store, "--check") == 2
    captured = capsys.readouterr()
    assert "1 images are not in the store: train/red/new.png" in captured.out
    assert "does not fit" in captured.err
    assert volo("train", image_folder, "--data.token-labels", store, f"--output={tmp_path / 'run'}", *SETTINGS) == 2
    assert "1 images are not in the store: train/red/new.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_convert_there_and_back(image_folder, store, tmp_path, capsys):
    maps, back = tmp_path / "maps", tmp_path / "back"
    assert volo("label", image_folder, "--convert", store, "--output", maps) == 0
    assert torch.load(maps / "red/03.pt", weights_only=True).shape == (2, 2, 4, 4)
    assert volo("label", image_folder, "--output", maps, "--check") == 0
    assert "a label file that can be read for each of 24 images" in capsys.readouterr().out
    assert volo("label", image_folder, "--convert", maps, "--output", back) == 0
    assert "24 label maps" in capsys.readouterr().out
    for name in ("01", "02"):
        (maps / f"red/{name}.pt").write_bytes(b"broken")
    assert volo("label", image_folder, "--output", maps, "--check") == 2
    captured = capsys.readouterr()
    assert f"cannot read the token labels: {maps / 'red/01.pt'} is " in captured.out.replace("\n", "")
    assert "2 of 24 label files cannot be used; the first ones are listed above" in captured.err
    one, two = TokenLabelStore(store), TokenLabelStore(back)
    assert all((one.read(i).scores == two.read(i).scores).all() for i in range(24))
    assert volo("train", image_folder, "--data.token-labels", maps, f"--output={tmp_path / 'run'}", *SETTINGS) == 0


def test_an_unreadable_image_is_counted(image_folder, model_folder, tmp_path, capsys):
    (image_folder / "train/red/05.png").write_bytes(b"broken")
    assert volo("label", image_folder, "--teacher", model_folder, "--output", tmp_path / "labels") == 0
    captured = capsys.readouterr()
    assert "cannot read image" in captured.err
    assert "23 images labeled, 1 cannot be read" in captured.out
    assert volo("label", image_folder, "--output", tmp_path / "labels", "--check") == 0
    assert "23 labeled, 1 cannot be read" in capsys.readouterr().out


def test_errors_are_one_line(image_folder, store, model_folder, tmp_path, capsys):
    teacher = model_folder
    other = tmp_path / "other"
    shutil.copytree(image_folder, other)
    (other / "train/red").rename(other / "train/rose")
    (other / "val/red").rename(other / "val/rose")
    (tmp_path / "cut").write_bytes(store.read_bytes()[:-10])
    data, out = str(image_folder), str(tmp_path / "new")
    for arguments, reason in (
        ([other, "--teacher", teacher, "--output", out], "does not know 1 of the 3 classes of the data: rose"),
        ([other, "--output", store, "--check"], "does not fit"),
        ([other, "--output", store, "--teacher", teacher], "does not know 1 of the 3 classes"),
        ([data, "--output", tmp_path / "cut", "--check"], "is truncated: it has"),
        ([data, "--output", out, "--check"], f"the store {out} does not exist"),
        (
            [data, "--output", out, "--teacher", "resnet51q_"],
            "no classifier of timm is named 'resnet51q_'; did you mean",
        ),
        (
            [data, "--output", out, "--teacher", teacher, "--fit", "crop"],
            "fit must be one of squeeze, keep, not 'crop'",
        ),
        (
            [data, "--output", out, "--teacher", teacher, "--precision", "int8"],
            "unknown precision 'int8'; available: fp32, bf16, fp16",
        ),
        ([data, "--output", out, "--check", "--show", "a.png"], "three different jobs: give one of them"),
        ([data, "--output", out, "--show", tmp_path / "a.png"], "there are no token labels at"),
        ([data, "--output", out, "--teacher", teacher, "--batch-size=0"], "--batch-size must be at least 1"),
    ):
        assert volo("label", *arguments) == 2, arguments
        error = capsys.readouterr().err
        assert reason in error, error
        assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
    for name in ("ground_truth", "legacy_crop"):
        assert volo("train", data, f"--loss.{name}=true", *SETTINGS) == 2
        assert f"loss.{name} needs data.token_labels" in capsys.readouterr().err
