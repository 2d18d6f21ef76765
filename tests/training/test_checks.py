import io
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from safetensors.torch import load_file

import volo
from volo.tasks.classification import ClassificationTask
from volo.training.checks import LOCK_FILE, available_cores, lock_folder
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


@pytest.fixture
def config(image_folder, tmp_path, blank_pictures):
    return TrainConfig(
        data=DataConfig(path=str(image_folder), workers=0),
        model=ModelConfig(name="volo_micro_32"),
        optim=OptimConfig(warmup_epochs=0),
        output=str(tmp_path / "run"),
        epochs=1,
        batch_size=8,
        accelerator="cpu",
    )


HOLD = """
import os, sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
if os.fork() == 0:  # like a loading process that outlives its parent for a while
    time.sleep(20)
    os._exit(0)
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_in_use_is_refused_until_its_process_is_killed(config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLD, str(folder / LOCK_FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"{folder} is in use by another run"):
            volo.train(config)
        assert not (folder / "train.json").exists()
        holder.kill()
    assert volo.train(config).evaluation is not None


def test_a_run_locks_its_folder_and_releases_it_at_its_end(config, tmp_path, monkeypatch):
    original = ClassificationTask.training_step

    def step(self, *arguments):
        with pytest.raises(ValueError, match="is in use by another run"), lock_folder(tmp_path / "run"):
            pass
        return original(self, *arguments)

    monkeypatch.setattr(ClassificationTask, "training_step", step)
    volo.train(config)
    with lock_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "fp16"}, r"this device \(cpu\) cannot train in precision fp16; use bf16 or fp32"),
        ({"sync_batchnorm": True}, "sync_batchnorm needs GPUs, and this run is on cpu"),
    ],
)
def test_settings_that_the_device_does_not_support_are_refused(config, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        volo.train(replace(config, **change))
    assert not (tmp_path / "run").exists()


def test_more_workers_than_cores_are_a_warning(config):
    workers = available_cores() + 1
    console = Console(record=True, width=300, file=io.StringIO())
    volo.train(replace(config, data=replace(config.data, workers=workers)), console=console)
    assert f"warning: data.workers {workers} is more than the {workers - 1} cores" in console.export_text()


def test_a_frozen_run_changes_only_the_heads(config, tmp_path):
    """Lightning keeps the frozen part in evaluation mode, also after a validation."""
    start = volo.train(config).folder
    frozen = replace(config, model=replace(config.model, pretrained=str(start), freeze=True), epochs=3)
    result = volo.train(replace(frozen, output=str(tmp_path / "probe")))
    before, after = load_file(start / "model.safetensors"), load_file(result.folder / "model.safetensors")
    moved = {name for name, tensor in after.items() if not tensor.equal(before[name])}
    assert moved == {"head.weight", "head.bias", "aux_head.weight", "aux_head.bias"}
