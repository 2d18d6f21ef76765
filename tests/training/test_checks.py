import io
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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


def test_a_process_that_imports_the_script_of_a_training_does_not_train(config, monkeypatch):
    """Where processes are spawned, each imports the script that started it; multiprocessing marks it meanwhile."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    for start in (lambda: volo.train(config), lambda: volo.resume(config.output)):
        with pytest.raises(SystemExit, match=r"^error: .*below the line `if __name__ == '__main__':`"):
            start()
    assert not Path(config.output).exists()


@pytest.mark.parametrize(
    ("method", "error", "guard"),
    [
        ("spawn", "DataLoader worker (pid 7) exited unexpectedly with exit code 1.", True),
        ("spawn", "DataLoader worker (pid 7) is killed by signal: Killed.", False),
        ("fork", "DataLoader worker (pid 7) exited unexpectedly with exit code 1.", False),
    ],
)
def test_a_loading_process_that_cannot_start_is_not_said_to_lack_memory(config, monkeypatch, method, error, guard):
    def fail(*_):
        raise RuntimeError(error)

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    monkeypatch.setattr(ClassificationTask, "training_step", fail)
    with pytest.raises(RuntimeError) as caught:
        volo.train(config)
    assert ("if __name__ == '__main__':" in str(caught.value)) == guard
    assert ("memory" in str(caught.value)) != guard


UNGUARDED = """
import multiprocessing, sys, volo
from pathlib import Path
from volo.training.config import TrainConfig
multiprocessing.set_start_method("spawn", force=True)
{guard}volo.train(TrainConfig.load(Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__': "])
def test_a_script_without_a_guard_is_told_so_where_processes_are_spawned(config, tmp_path, guard):
    settings = replace(config, data=replace(config.data, workers=1))
    (tmp_path / "settings.json").write_text(settings.to_json())
    (tmp_path / "script.py").write_text(UNGUARDED.format(guard=guard))
    command = [sys.executable, tmp_path / "script.py", tmp_path / "settings.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == bool(guard), done.stderr
    if guard:
        assert done.stderr == ""
        return
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: processes that load images import the script that started them")
    assert lines[-1].startswith("RuntimeError: a process that loads images ended at its start; processes that load")
    assert "in use by another run" not in done.stderr
    assert "memory" not in done.stderr


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
