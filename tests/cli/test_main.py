"""The dispatcher: help, errors of every command in one line, and missing extras."""

import subprocess
import sys

import pytest
from commands import volo

from volo.cli import MODULES, main


def test_help_lists_every_verb_and_each_verb_has_its_own_help(capsys):
    assert volo("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in MODULES)
    for verb in MODULES:
        try:
            code = volo(verb, "--help")
        except SystemExit as stop:  # jsonargparse exits at --help
            code = stop.code
        assert code == 0
        assert f"volo {verb}" in capsys.readouterr().out


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        volo("train", tmp_path / "nowhere", "--debug")


def test_an_unexpected_error_is_one_line_and_exit_code_1(model_folder, image_folder, monkeypatch, capsys):
    monkeypatch.setattr("volo.inference.Predictor.predict_pixels", lambda *a, **k: 1 / 0)
    assert volo("predict", model_folder, image_folder) == 1
    assert capsys.readouterr().err == "volo predict: ZeroDivisionError: division by zero (--debug shows where)\n"


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_missing_extra_is_named(verb, model_folder, image_folder):
    code = f"""
import sys
for name in ("pytorch_lightning", "timm", "torchmetrics", "matplotlib"):
    sys.modules[name] = None
from volo.cli import main
arguments = {{"train": [{str(image_folder)!r}], "eval": [{str(model_folder)!r}, {str(image_folder)!r}]}}
sys.exit(main([{verb!r}, *arguments[{verb!r}]]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "pip install 'volo[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_skipped_files_are_reported_once_and_by_the_first_process_only(image_folder, monkeypatch, capsys, variable):
    for split in ("train", "val"):
        (image_folder / split / "red" / "1.dng").write_text("no picture")
    for rank, count in (("0", 1), ("1", 0)):
        monkeypatch.setenv(variable, rank)
        assert volo("data", "check", image_folder, "--workers=0") == 0
        assert capsys.readouterr().err.count("2 files skipped: 2 .dng") == count


def test_an_error_with_the_content_of_a_file_is_shortened(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/train.json").write_text('{"data": {"' + "x" * 10**5 + '": 1}}')
    assert main(["train", "--resume", "run"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("volo train: run/train.json is not a training configuration: unknown setting 'data.xxx")
    assert "x…x" in line
    assert len(line) < 2100
