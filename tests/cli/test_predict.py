"""``volo predict``: classes of images and masks of scenes, by checkpoints, exported files and others' weights."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import volo
from peers import of_authors, timm_from_config, timm_micro
from PIL import Image
from scenes import COLORS, NAMES

from volo.inference import Predictor, Segmenter
from volo.models import VARIANTS, create_model, save_model
from volo.outputs import MARK_FILE

# Classification


def test_predictions_as_json_and_csv_agree(model_folder, image_folder, tmp_path):
    for name in ("out.json", "out.csv"):
        assert volo("predict", model_folder, image_folder / "val", f"--output={tmp_path / name}", "--top-k=2") == 0
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


def test_the_model_may_be_an_option(model_folder, image_folder, tmp_path, capsys):
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
    assert (
        f"images are missing: volo predict {photo} IMAGE…, or volo predict {photo} --model" in capsys.readouterr().err
    )


def test_images_are_files_folders_and_patterns(model_folder, image_folder, tmp_path):
    out = tmp_path / "out.json"
    names = [image_folder / "val/red/00.png", image_folder / "val/blue", f"{image_folder}/val/g*/0[12].png"]
    assert volo("predict", model_folder, *names, f"--output={out}") == 0
    assert len(json.loads(out.read_text())) == 1 + 4 + 2


def test_paths_are_read_from_standard_input(model_folder, image_folder, tmp_path, monkeypatch, capsys):
    names = [str(image_folder / "val/red" / f"{number:02d}.png") for number in range(3)]
    for data in ("\n".join(names), "\0".join(names)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode())))
        assert volo("predict", model_folder, "-", f"--output={tmp_path / 'out.json'}", "--overwrite") == 0
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


def test_a_model_of_two_channels_takes_no_files(tmp_path, image_folder, capsys):
    model, half = create_model("volo_micro_32", num_classes=3, in_chans=2), [0.5, 0.5]
    preprocessing = {"size": [32, 32], "mean": half, "std": half}
    save_model(
        tmp_path, model.config, model.state_dict(), class_names=("blue", "green", "red"), preprocessing=preprocessing
    )
    for verb in ("predict", "eval"):
        assert volo(verb, tmp_path, image_folder / "val") == 2
        assert "not 2; give other inputs as arrays, in Python" in capsys.readouterr().err


def test_a_model_of_four_channels_loads_but_takes_no_photos(tmp_path):
    path = tmp_path / "four.pth"
    torch.save(timm_micro(in_chans=4).state_dict(), path)
    with pytest.raises(ValueError, match="takes 4 channels, but its preprocessing gives 3"):
        Predictor(path)


@pytest.fixture
def official(tmp_path):
    """D1 as the authors save it, 1,000 classes."""
    torch.manual_seed(0)
    path = tmp_path / "d1_224_84.2.pth.tar"
    torch.save(of_authors(timm_from_config(VARIANTS["volo_d1_224"])), path)
    return path


def test_the_authors_file_brings_its_preprocessing_and_the_class_names_of_imagenet(tmp_path, official, capsys):
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "red.png")
    output = tmp_path / "out.json"
    assert volo("predict", official, tmp_path / "red.png", "--output", output) == 0
    predictor = Predictor(official)
    assert (predictor.preprocessing.crop_pct, predictor.preprocessing.size) == (0.96, (224, 224))
    assert predictor.class_names[0] == "tench"
    best = json.loads(output.read_text())[0]["predictions"][0]
    assert best["name"] in predictor.class_names


def test_predicting_needs_no_extra(model_folder, image_folder):
    code = f"""
import sys
for name in ("pytorch_lightning", "timm", "torchmetrics", "matplotlib"):
    sys.modules[name] = None
from volo.cli import main
sys.exit(main(["predict", {str(model_folder)!r}, {str(image_folder / "val")!r}]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# Segmentation


def test_a_segmenter_writes_masks_overlays_a_legend_and_shares(segmenter, scenes, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert volo("predict", segmenter, scenes / "val/images", f"--output={out}") == 0
    assert "3 masks, overlays, legend.png and shares.csv are in" in capsys.readouterr().out
    assert len([path for path in out.rglob("*") if path.is_file() and path.name != MARK_FILE]) == 8
    loaded = Segmenter(segmenter)
    with (out / "shares.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        expected = loaded(row["image"])
        assert [float(row[name]) for name in NAMES] == pytest.approx(expected.shares, abs=1e-6)
        with Image.open(out / "masks" / f"{row['image'].split('/')[-1]}") as mask:
            np.testing.assert_array_equal(np.asarray(mask), expected.mask)
            assert tuple(mask.getpalette()[:3]) == COLORS[0]
    assert volo("predict", segmenter, scenes / "val/images", f"--output={out}") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert volo("predict", segmenter, scenes / "val/images", f"--output={out}", "--overwrite") == 0


def test_an_exported_segmenter_gives_the_same_scores_and_masks(segmenter, exported_segmenter, scenes, tmp_path, capsys):
    printed, masks = [], []
    for name, path in (("model", segmenter), ("exported", exported_segmenter)):
        assert volo("eval", path, scenes, "--threads", "1") == 0
        assert volo("predict", path, scenes / "val/images", f"--output={tmp_path / name}", "--batch-size=3") == 0
        printed.append(capsys.readouterr().out.replace(str(tmp_path / name), ""))
        masks.append(np.stack([np.asarray(Image.open(mask)) for mask in sorted((tmp_path / name / "masks").iterdir())]))
    assert printed[0] == printed[1]
    assert (masks[0] == masks[1]).mean() > 0.999


def test_without_an_output_the_shares_are_printed(segmenter, scenes, capsys, monkeypatch):
    monkeypatch.chdir(scenes)
    assert volo("predict", segmenter, "val/images/0.png") == 0
    out = capsys.readouterr().out
    assert "0.png" in out
    assert any(f"{name} " in out for name in NAMES)
    assert "%" in out


def test_images_that_cannot_be_read_are_left_out_with_a_warning(segmenter, scenes, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no image")
    out = tmp_path / "out"
    assert volo("predict", segmenter, scenes / "val/images/0.png", tmp_path / "bad.png", f"--output={out}") == 0
    err = capsys.readouterr().err
    assert "bad.png" in err
    assert "warning: 1 of 2 images could not be read" in err
    assert len((out / "shares.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("MODEL IMAGE --top-k 2", "--top-k: only for classification models, and this is a segmentation model"),
        ("MODEL IMAGE --output NEW.csv", "--output of a segmentation model is a folder"),
        ("MODEL IMAGE --output FILE", "is a file; name a folder"),
        ("MODEL IMAGE --window 0", "window must be a height and a width in pixels, not (0, 0)"),
        ("MODEL IMAGE --window [8]", "--window must be a side or [height,width], not [8]"),
        ("MODEL IMAGE --window 16 --stride 17", "stride must be 1 to the window's sides"),
        ("MODEL IMAGE --scales [0]", "scales must be one or more positive factors"),
        ("MODEL IMAGE --scales two", "scales"),
        ("MODEL GONE --output NEW", "is neither a file, a folder nor a pattern"),
        ("MODEL FILE --output NEW", "cannot read image"),
        (
            "CLASSIFIER IMAGE --flip --window 8",
            "--window, --flip: only for segmentation models, and this is a classification model",
        ),
        ("EXPORTED IMAGE --window 64", "takes only windows of 32x48 pixels, not of 64x64: leave out the window"),
        ("EXPORTED IMAGE --top-k 2", "--top-k: only for classification models, and this is a segmentation model"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(command, message, refused):
    assert message in refused("predict", command)


def test_pillows_warnings_of_metadata_are_not_shown(model_folder, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x010F], exif[0x9286] = "maker" * 20, "comment" * 20
    path = tmp_path / "odd.jpg"
    Image.new("RGB", (40, 30), "red").save(path, exif=exif.tobytes()[:-60])
    with pytest.warns(UserWarning, match="Skipping tag|EXIF"), Image.open(path) as image:
        image.getexif()
    assert volo("predict", model_folder, path) == 0
    assert capsys.readouterr().err == ""
