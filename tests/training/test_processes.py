import csv
import subprocess
import sys

import pytest


def train(image_folder, output, *options):
    """Train by the command, as several processes must be started: Lightning starts the others with the same one."""
    command = [sys.executable, "-m", "volo", "train", str(image_folder), f"--output={output}", *options]
    fixed = ["--model.name=volo_micro_32", "--data.workers=0", "--epochs=2", "--optim.warmup_epochs=1"]
    result = subprocess.run([*command, *fixed, "--accelerator=cpu"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    with (output / "metrics.csv").open() as file:
        return result.stdout, list(csv.DictReader(file))


@pytest.mark.slow
def test_two_processes_train_together_see_every_image_once_and_repeat_themselves(image_folder, tmp_path):
    options = ["--devices=2", "--strategy=ddp", "--batch_size=4"]
    out, rows = train(image_folder, tmp_path / "one", *options)
    assert out.count("24 training and 12 validation images") == 1
    assert "batch 8" in out
    assert [row["step"] for row in rows] == ["3", "6"]
    _, again = train(image_folder, tmp_path / "two", *options)
    for first, second in zip(rows, again, strict=True):
        assert float(first["train_loss"]) == pytest.approx(float(second["train_loss"]), rel=1e-5)
        assert first["val_top1"] == second["val_top1"]


@pytest.mark.slow
def test_half_precision_and_accumulation_run(image_folder, tmp_path):
    options = ["--precision=bf16-mixed", "--accumulate=3", "--batch_size=4"]
    out, rows = train(image_folder, tmp_path / "run", *options)
    assert "batch 12" in out
    assert [row["step"] for row in rows] == ["2", "4"]
