"""``volo data check``: the report and the contact sheets."""

import json
import shutil

from commands import volo


def test_data_check_reports_and_writes_sheets(image_folder, tmp_path, capsys):
    (image_folder / "val/red/bad.png").write_bytes(b"nothing")
    shutil.copy(image_folder / "train/blue/00.png", image_folder / "val/green/copy.png")
    assert volo("data", "check", image_folder, f"--output={tmp_path / 'out'}", "--workers=0") == 0
    out = capsys.readouterr().out
    for words in (
        "38 images of 3 classes",
        "unreadable: 1",
        "exact duplicates: 1 groups",
        "labels differ",
        "bad.png:",
    ):
        assert words in out
    assert json.loads((tmp_path / "out/check.json").read_text())["images"] == 38
    names = sorted(path.name for path in (tmp_path / "out/contact_sheets").iterdir())
    assert names == ["0000-blue.png", "0001-green.png", "0002-red.png"]
    assert volo("data", "check", image_folder, "--workers=0", "--strict") == 2
    assert "findings (--strict)" in capsys.readouterr().err
