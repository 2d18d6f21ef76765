"""The check of images with masks: its counts and findings."""

import json
import shutil

import numpy as np
import pytest
from scenes import NAMES, make_scenes, save_mask

from volo.cli import main
from volo.data import open_splits
from volo.data.checks.pairs import check_pairs


def report_on(root):
    return check_pairs({part: opener() for part, opener in open_splits(str(root), task="segmentation").items()})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("scenes"))


def test_pixels_and_images_are_counted_by_class_and_split(scenes):
    report = report_on(scenes)
    assert report.findings() == []
    train = open_splits(str(scenes), task="segmentation")["train"]()
    masks = [train.read_mask(i) for i in range(4)]
    for index in range(len(NAMES)):
        assert report.pixels["train"][index] == sum((mask == index).sum() for mask in masks)
        assert report.images_with["train"][index] == sum((mask == index).any() for mask in masks)
    assert report.ignored("train") == pytest.approx(2 / 48)
    values = json.loads(json.dumps(report.to_dict()))
    assert values["pairs"] == {"train": 4, "val": 3}
    assert values["sizes"] == {"width": [72, 72, 72], "height": [48, 48, 48]}
    assert values["pixels"]["val"]["sky"] == report.pixels["val"][0]


def test_every_fault_is_a_finding(tmp_path):
    root = make_scenes(tmp_path)
    (root / "train/images/0.png").write_text("no picture")
    save_mask(np.full((48, 72), 9, np.uint8), root / "train/masks/1.png")
    save_mask(np.full((48, 72), 255, np.uint8), root / "train/masks/2.png")
    save_mask(np.zeros((48, 72), np.uint8), root / "train/masks/3.png")
    shutil.copy(root / "train/images/3.png", root / "val/images/2.png")
    lines = report_on(root).findings()
    assert [line.partition(":")[0].rsplit("/", 1)[-1] for line in lines] == [
        "0.png",
        "1.png",
        "masks with every pixel ignored",
        "the train split",
        "exact duplicates (across splits)",
    ]
    assert "it holds values of no class: 9" in lines[1]
    assert "1, of" in lines[2]
    assert "every pixel is of one class, 'sky'" in lines[3]
    assert lines[4].endswith("val/images/2.png")


def test_a_split_without_a_usable_pair_is_not_reported_as_void(tmp_path):
    root = make_scenes(tmp_path)
    for path in (root / "val/masks").iterdir():
        path.write_text("no picture")
    assert [line.partition(":")[0].rpartition("/")[2] for line in report_on(root).findings()] == [
        f"{number}.png" for number in range(3)
    ]


def test_a_class_that_a_split_never_shows_is_a_finding(tmp_path):
    root = make_scenes(tmp_path)
    (root / "classes.txt").write_text((root / "classes.txt").read_text() + "bird\n")
    assert report_on(root).findings() == [
        "the train split: no pixels of bird",
        "the val split: no pixels of bird",
    ]


def test_the_contact_sheet_of_a_split_shows_the_colors_and_every_image_twice(scenes):
    sheets = report_on(scenes).contact_sheets()
    assert list(sheets) == ["train", "val"]
    pixels = np.asarray(sheets["train"])
    for color in ((120, 170, 230), (220, 60, 50)):
        assert (pixels == color).all(axis=2).sum() > 3000  # a patch of the legend
    assert sheets["train"].height > 2 * 112


def test_the_command_prints_the_classes_and_writes_the_report(scenes, tmp_path, capsys):
    assert main(["data", "check", str(scenes), "--workers=0", f"--output={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "7 images with masks of 4 classes" in out
    assert all(name in out for name in NAMES)
    assert "ignored: train 4.17%, val 4.17% of pixels; unusable pairs: 0" in out
    assert json.loads((tmp_path / "out/check.json").read_text())["findings"] == []
    assert len(list((tmp_path / "out/contact_sheets").glob("*.png"))) == 2
