"""``volo export``: the file, the table, the report, and the files after a failed comparison."""

import json

import pytest
from bad_things import make_world

from volo.cli import main
from volo.export.verify import BOUNDS


@pytest.fixture
def world(tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_export_writes_a_file_and_a_report_and_prints_a_table(world, capsys):
    assert main(["export", "model", "--to", "torch-export", "--size", "40x48", "--images", "good/val"]) == 0
    printed = capsys.readouterr().out
    assert "4 images, torch-export beside PyTorch" in printed
    assert "model.pt2; the comparison is in model.pt2.report.json" in printed
    report = json.loads((world / "model.pt2.report.json").read_text())
    assert (report["passed"], report["images"], report["sizes"]) == (True, 4, [[40, 48]])
    assert report["file"]["class_names"] == ["cat", "dog"]
    assert main(["predict", "model.pt2", "good/val/cat/0.png", "--threads", "1", "--output", "exported.json"]) == 0
    assert main(["eval", "model.pt2", "good", "--batch-size", "3"]) == 0


def test_a_file_that_resizes_is_compared_with_pillow(world, capsys):
    images = ["--images", "good/val"]
    assert main(["export", "model", "--to", "torch-export", "--include-resize", "--dynamic=none", *images]) == 0
    printed = capsys.readouterr().out
    assert "a pixel beside Pillow's, mean" in printed
    assert "same answer as of Pillow's" in printed
    assert main(["eval", "model.pt2", "good"]) == 0


def test_a_failed_comparison_exits_with_1_and_keeps_the_files(world, capsys, monkeypatch):
    monkeypatch.setitem(BOUNDS, "fp32", 0.0)
    assert main(["export", "model", "--to", "torch-export", "--size", "40", "--output", "out/a.pt2"]) == 1
    assert "out/a.pt2 does not agree with PyTorch: outputs differ by up to" in capsys.readouterr().err
    assert sorted(path.name for path in (world / "out").iterdir()) == ["a.pt2", "a.pt2.report.json"]
    assert json.loads((world / "out" / "a.pt2.report.json").read_text())["passed"] is False
