"""``volo demo``: the embedded data and the photos of the package."""

import json

import pytest
from commands import volo
from PIL import Image

from volo.cli.training.demo import classify_photos
from volo.data.embedded import PHOTOS


def test_the_photos_of_the_package_are_classified(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    classify_photos(tmp_path)
    out = capsys.readouterr().out
    assert all(str(tmp_path / "photos" / name) in out for name in PHOTOS)
    assert (tmp_path / "photos/CREDITS.txt").exists()
    with Image.open(tmp_path / "photos.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_demo(tmp_path, capsys, caplog):
    folder = tmp_path / "demo"
    assert volo("demo", f"--output={folder}", "--epochs=1") == 0
    for name in ("photos.png", "curves.png", "from-scratch/summary.png", "fine-tuned/summary.png"):
        assert (folder / name).exists()
    assert "Ankle boot" in capsys.readouterr().out
    assert "first convolution adapted from 3 to 1 channels; heads of 10 other classes replaced" in caplog.text
    tops = [json.loads((folder / name / "results.json").read_text())["top1"] for name in ("from-scratch", "fine-tuned")]
    assert tops[1] > tops[0]
