"""Where figures go beside metrics.csv."""

import csv
import os

import pytest
from processes import TINY, volo

from volo.training.callbacks import loggers
from volo.training.config import LOGGERS


def train(images, folder, name, prepare=None):
    command = ("train", images, f"--output={folder / 'run'}", *TINY, "--epochs=2", f'--loggers=["{name}"]')
    return volo(folder, *command, prepare=prepare, extra=(folder,) if prepare else ())


def epochs(folder):
    with (folder / "run/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def log_every_second_step(folder):
    loggers.STEPS_BETWEEN_LOSSES = 2


def test_tensorboard_gets_every_row_and_the_loss_between(kept_image_folder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, printed = train(kept_image_folder, tmp_path, "tensorboard", log_every_second_step)
    assert code == 0, printed
    assert "Warning" not in printed
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for name in ("train_loss", "val_loss", "val_top1"):
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (int(row["step"]), pytest.approx(float(row[name]))) for row in epochs(tmp_path)
        ]
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8, 10, 12]


def offline(folder):
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


@pytest.mark.slow
def test_wandb_keeps_a_run_without_a_network_and_goes_on_with_it(kept_image_folder, tmp_path):
    pytest.importorskip("wandb")
    code, printed = train(kept_image_folder, tmp_path, "wandb", offline)
    assert code == 0, printed
    assert list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    first = loggers.make_loggers(["wandb"], tmp_path / "run")[0]
    assert first.version == next((tmp_path / "run/wandb").glob("offline-run-*")).name.rpartition("-")[2]


def to_a_folder(folder):
    os.environ |= {"MLFLOW_TRACKING_URI": f"file:{folder / 'mlruns'}", "MLFLOW_ALLOW_FILE_STORE": "true"}


@pytest.mark.slow
def test_mlflow_gets_every_row(kept_image_folder, tmp_path):
    pytest.importorskip("mlflow")
    code, printed = train(kept_image_folder, tmp_path, "mlflow", to_a_folder)
    assert code == 0, printed
    logged = next((tmp_path / "mlruns").rglob("metrics/val_top1")).read_text().splitlines()
    assert [float(line.split()[1]) for line in logged] == [float(row["val_top1"]) for row in epochs(tmp_path)]


def test_every_logger_of_the_configuration_can_be_made():
    assert tuple(loggers._LOGGERS) == LOGGERS


def test_a_logger_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the logger mlflow needs mlflow; install it with: pip install mlflow"):
        loggers.make_loggers(["mlflow"], tmp_path)
