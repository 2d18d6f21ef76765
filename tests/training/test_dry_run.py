import io
import tempfile
from dataclasses import replace

import pytest
from rich.console import Console

from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.dry_run import dry_run


@pytest.fixture
def config(image_folder, blank_pictures):
    return TrainConfig(
        data=DataConfig(path=str(image_folder), workers=0),
        model=ModelConfig(name="volo_micro_32"),
        optim=OptimConfig(warmup_epochs=5, ema_decay=0.9),
        epochs=20,
        batch_size=4,
        accelerator="cpu",
    )


def run(config):
    console = Console(record=True, width=1000, file=io.StringIO())
    result = dry_run(config, console=console)
    return result, console.export_text()


def test_it_estimates_the_whole_run_and_keeps_nothing(config, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(scratch)
    result, text = run(config)
    assert not list(scratch.iterdir())
    assert "24 training and 12 validation images of 3 classes; batch 4 (4 images × accumulate 1" in text
    assert "generated" not in text
    assert result.checkpoint > 4 * 4 * 0.98e6  # weights, two moments of AdamW and the average, float32
    assert result.memory > 100e6
    steps, batches = 24 // 4, 12 // 4
    expected = steps * (result.step_seconds + 4 * result.loading_seconds) + batches * result.val_seconds
    assert result.epoch_seconds == pytest.approx(expected)
    assert result.run_seconds == pytest.approx(20 * expected)


def test_the_output_folder_is_not_touched(config, tmp_path):
    run(replace(config, output=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_accumulation_over_more_than_two_batches_still_makes_a_step(config):
    _, text = run(replace(config, accumulate=3))
    assert "batch 12 (4 images × accumulate 3" in text


def test_weights_that_are_not_here_are_not_downloaded(config):
    model = replace(config.model, pretrained="hf-hub:nobody/nothing")
    _, text = run(replace(config, model=model))
    assert "the weights hf-hub:nobody/nothing are not downloaded: random weights are used instead" in text


def test_a_misspelled_folder_is_an_error_and_not_replaced(config):
    with pytest.raises(ValueError, match="is named 'photso'"):
        run(replace(config, data=replace(config.data, path="photso")))
