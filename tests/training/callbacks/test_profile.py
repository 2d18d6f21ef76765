import json
import signal
import time
from dataclasses import replace

import pytest

import volo
from volo.tasks.classification import ClassificationTask
from volo.training.callbacks.profile import StageProfiler
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


def test_every_moment_counts_for_one_stage():
    stages = StageProfiler()
    with stages.profile("run_training_batch"):
        with stages.profile("[LightningModule]ClassificationTask.optimizer_step"):
            with stages.profile("[Strategy]SingleDeviceStrategy.training_step"):
                time.sleep(0.02)
                with stages.profile("loss"):
                    time.sleep(0.03)
            with stages.profile("[Strategy]SingleDeviceStrategy.backward"):
                time.sleep(0.05)
            time.sleep(0.01)
        stages.start("validation")
        with stages.profile("[Strategy]SingleDeviceStrategy.batch_to_device"):
            time.sleep(0.02)
        stages.stop("validation")
    wanted = {"forward": 0.02, "loss": 0.03, "backward": 0.05, "optimizer": 0.01, "validation": 0.02, "transfer": 0.0}
    for stage, seconds in wanted.items():
        assert seconds <= stages.seconds[stage] < seconds + 0.5, stage
    assert stages.seconds["transfer"] == 0.0
    assert (
        stages.seconds["loss"] < stages.seconds["forward"] + stages.seconds["loss"] < stages.seconds["backward"] + 0.5
    )
    assert stages.calls["optimizer"] == stages.calls["validation"] == 1


@pytest.fixture
def config(image_folder, tmp_path, blank_pictures):
    return TrainConfig(
        data=DataConfig(path=str(image_folder), workers=0),
        model=ModelConfig(name="volo_micro_32"),
        optim=OptimConfig(warmup_epochs=0, ema_decay=0.9),
        output=str(tmp_path / "run"),
        epochs=2,
        batch_size=4,
        accelerator="cpu",
    )


def test_a_profiled_run_is_the_same_run_and_leaves_a_table_of_all_stages_and_a_bounded_trace(config, tmp_path):
    plain = volo.train(replace(config, output=str(tmp_path / "plain"))).folder
    started = time.perf_counter()
    folder = volo.train(config, profile=True).folder
    elapsed = time.perf_counter() - started
    assert (folder / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    table, _, operators = (folder / "profile.txt").read_text().partition("\n\n")
    rows = {line[:20].strip(): line[20:].split() for line in table.splitlines()[1:]}
    stages = "data waiting, transfer, forward, loss, backward, optimizer, EMA, validation, checkpoint"
    for stage in stages.split(", "):
        calls = int(rows[stage][2])
        assert calls == {"validation": 2}.get(stage, 12) or stage == "checkpoint", stage
        assert float(rows[stage][0]) >= 0
    total = float(rows.pop("all")[0])
    assert sum(float(row[0]) for row in rows.values()) == pytest.approx(total, abs=0.01 * len(rows))
    assert total <= elapsed
    assert float(rows["backward"][0]) > float(rows["loss"][0])
    assert "volo::outlook_attention" in operators or "aten::" in operators
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    steps = [event for event in events if event.get("name", "").startswith("ProfilerStep#") and event.get("ph") == "X"]
    assert len({event["name"] for event in steps}) == 5


def test_a_run_that_is_stopped_leaves_its_profile_too(config, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "lr_scheduler_step", lambda *_: signal.raise_signal(signal.SIGTERM))
    result = volo.train(config, profile=True)
    assert result.stopped_by is signal.SIGTERM
    assert (result.folder / "profile.txt").read_text().startswith("stage")
