"""``volo eval`` and ``volo predict`` with a segmentation model, and what either kind of model refuses."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scenes import COLORS, NAMES, make_scenes
from segments import save_untrained

from volo.cli import main
from volo.export.pipeline import export_model
from volo.inference import Segmenter
from volo.models import create_model, save_model


def volo(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("runs") / "model")


@pytest.fixture(scope="module")
def exported(model):
    """Of windows of 32 × 48 pixels."""
    return export_model(model, to="torch-export", output=model / "model.pt2").path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "classifier"
    folder.mkdir()
    network = create_model("volo_micro_32", num_classes=2, dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2))
    preprocessing = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    save_model(folder, network.config, network.state_dict(), class_names=("a", "b"), preprocessing=preprocessing)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("data"), [("val", 3)])


def test_eval_prints_and_writes_the_scores(model, data, tmp_path, capsys):
    out = tmp_path / "out"
    settings = ["--window=[24,32]", "--stride=16", "--scales=[1,1.5]", "--flip", "--batch-size=2"]
    assert volo("eval", model, data, f"--output={out}", *settings) == 0
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


def test_predict_writes_masks_overlays_a_legend_and_shares(model, data, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert volo("predict", model, data / "val/images", f"--output={out}") == 0
    assert "3 masks, overlays, legend.png and shares.csv are in" in capsys.readouterr().out
    assert len([path for path in out.rglob("*") if path.is_file()]) == 8
    segmenter = Segmenter(model)
    with (out / "shares.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        expected = segmenter(row["image"])
        assert [float(row[name]) for name in NAMES] == pytest.approx(expected.shares, abs=1e-6)
        with Image.open(out / "masks" / f"{row['image'].split('/')[-1]}") as mask:
            np.testing.assert_array_equal(np.asarray(mask), expected.mask)
            assert tuple(mask.getpalette()[:3]) == COLORS[0]
    assert volo("predict", model, data / "val/images", f"--output={out}") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert volo("predict", model, data / "val/images", f"--output={out}", "--overwrite") == 0


def test_an_exported_file_gives_the_same_table_and_masks(model, exported, data, tmp_path, capsys):
    said, masks = [], []
    for name, path in (("model", model), ("exported", exported)):
        assert volo("eval", path, data, "--threads", "1") == 0
        assert volo("predict", path, data / "val/images", f"--output={tmp_path / name}", "--batch-size=3") == 0
        said.append(capsys.readouterr().out.replace(str(tmp_path / name), ""))
        masks.append(np.stack([np.asarray(Image.open(mask)) for mask in sorted((tmp_path / name / "masks").iterdir())]))
    assert said[0] == said[1]
    assert (masks[0] == masks[1]).mean() > 0.999


def test_without_an_output_the_shares_are_printed(model, data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    assert volo("predict", model, "val/images/0.png") == 0
    out = capsys.readouterr().out
    assert "0.png" in out
    assert any(f"{name} " in out for name in NAMES)
    assert "%" in out


def test_images_that_cannot_be_read_are_left_out_with_a_warning(model, data, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no image")
    out = tmp_path / "out"
    assert volo("predict", model, data / "val/images/0.png", tmp_path / "bad.png", f"--output={out}") == 0
    err = capsys.readouterr().err
    assert "bad.png" in err
    assert "warning: 1 of 2 images could not be read" in err
    assert len((out / "shares.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict MODEL IMAGE --top-k 2", "--top_k: for classification models; this model is one of segmentation"),
        ("predict MODEL IMAGE --output NEW.csv", "--output of a segmentation model is a folder"),
        ("predict MODEL IMAGE --output FILE", "is a file; name a folder"),
        ("predict MODEL IMAGE --window 0", "window must be a height and a width in pixels, not (0, 0)"),
        ("predict MODEL IMAGE --window [8]", "--window must be a side or [height,width], not [8]"),
        ("predict MODEL IMAGE --window 16 --stride 17", "stride must be 1 to the window's sides"),
        ("predict MODEL IMAGE --scales [0]", "scales must be one factor or more, all positive"),
        ("predict MODEL IMAGE --scales two", "scales"),
        ("predict MODEL GONE --output NEW", "is neither a file, a folder nor a pattern"),
        ("predict MODEL FILE --output NEW", "cannot read image"),
        ("predict CLASSIFIER IMAGE --flip --window 8", "--window, --flip: for segmentation models; this model is one"),
        ("predict CLASSIFIER IMAGE --overwrite", "--overwrite: for segmentation models"),
        (
            "predict EXPORTED IMAGE --window 64",
            "takes windows of 32x48 pixels alone, not of 64x64: leave out the window",
        ),
        ("predict EXPORTED IMAGE --top-k 2", "--top_k: for classification models; this model is one of segmentation"),
        ("eval EXPORTED DATA --runtime openvino", "runs in torch-export, not in openvino"),
        ("eval MODEL DATA --threads 0", "threads must be at least 1, not 0"),
        ("eval MODEL DATA --classes folder --real x", "--classes, --real: for classification models"),
        ("eval CLASSIFIER DATA --scales [1,2]", "--scales: for segmentation models"),
        ("eval MODEL DATA --output FILE", "is a file; name a folder"),
        ("eval MODEL DATA --split test", "has no part 'test'"),
        ("eval MODEL EMPTY", ""),
    ],
)
def test_one_clear_line_and_nothing_left(command, message, model, exported, classifier, data, tmp_path, capsys):
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    words = {
        "MODEL": model, "CLASSIFIER": classifier, "DATA": data, "IMAGE": data / "val/images/0.png",
        "FILE": tmp_path / "file", "NEW": tmp_path / "new", "NEW.csv": tmp_path / "new.csv", "GONE": tmp_path / "gone",
        "EMPTY": tmp_path / "empty", "EXPORTED": exported,
    }  # fmt: skip
    assert volo(*(words.get(word, word) for word in command.split())) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
