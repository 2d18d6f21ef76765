"""``volo compare``: the printed table, the picture and the JSON."""

import json
import shutil

from commands import TRAINING, volo


def test_compare_prints_a_table_and_writes_picture_and_json(tmp_path, image_folder, capsys):
    runs = [tmp_path / name for name in ("one", "two")]
    assert volo("train", image_folder, f"--output={runs[0]}", "--epochs=1", *TRAINING) == 0
    shutil.copytree(*runs)
    config = json.loads((runs[1] / "train.json").read_text())
    (runs[1] / "train.json").write_text(json.dumps({**config, "epochs": 2}))
    capsys.readouterr()
    assert volo("compare", *runs, f"--output={tmp_path / 'both.png'}") == 0
    captured = capsys.readouterr()
    for words in ("one", "two", "finished", "top-1", "top-1 against one", "p = ", "0.98 M", "epochs"):
        assert words in captured.out
    assert captured.err == ""
    values = json.loads((tmp_path / "both.json").read_text())
    assert values["settings"] == {"epochs": [1, 2]}
    assert values["against_the_first"][0]["images"] == 12
    assert (tmp_path / "both.png").stat().st_size > 10_000


def test_a_setting_of_a_stranger_does_not_steer_the_terminal(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(
            json.dumps({"data": {"path": f"{name}\x1b[2J\u202e"}, "\x1b]0;x": name})
        )
    assert volo("compare", tmp_path / "one", tmp_path / "two") == 0
    printed = capsys.readouterr().out
    assert r"two\x1b[2J\u202e" in printed
    assert r"\x1b]0;x" in printed
    assert not {"\x1b", "\u202e"} & set(printed)
