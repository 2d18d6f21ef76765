import importlib.util
import json
import re
from pathlib import Path

import pytest

from volo.cli import main
from volo.models import create_model, load_model, save_model
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.run import train

_SPEC = importlib.util.spec_from_file_location(
    "make_shipped_model", Path(__file__).parents[2] / "tools/make_shipped_model.py"
)
tool = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tool)


def one_epoch(images, output, **model):
    """A finished run of one epoch."""
    config = TrainConfig(
        data=DataConfig(path=str(images), workers=0),
        model=ModelConfig(name="volo_micro_32", drop_path_rate=0.1, **model),
        optim=OptimConfig(warmup_epochs=0),
        output=str(output),
        epochs=1,
        batch_size=8,
        accelerator="cpu",
    )
    return train(config).folder


@pytest.fixture(scope="module")
def run(kept_image_folder, tmp_path_factory):
    return one_epoch(kept_image_folder, tmp_path_factory.mktemp("run") / "run")


def test_a_run_becomes_weights_of_16_bits_with_a_card_that_volo_eval_bears_out(
    run, kept_image_folder, tmp_path, capsys
):
    tool.make(run, str(kept_image_folder), tmp_path)
    assert "warning" not in capsys.readouterr().out
    folder = tmp_path / "src/volo/models/weights/shipped/volo_micro_32.cifar10"
    assert (folder / "model.safetensors").stat().st_size < 0.52 * (run / "model.safetensors").stat().st_size
    pictures = {path.name for path in (tmp_path / "docs/volo_micro_32.cifar10").iterdir()}
    assert pictures == {"curves.png", "confusion.png", "reliability.png"}

    assert main(["eval", str(folder), str(kept_image_folder), f"--output={tmp_path / 'judged'}"]) == 0
    judged = json.loads((tmp_path / "judged/results.json").read_text())
    card = (folder / "README.md").read_text()
    for key, name in (("top1", "top-1"), ("calibration_error", "calibration error")):
        low, high = judged["intervals"][key]
        assert f"| {name} | {judged[key]:.2%} | {low:.2%} to {high:.2%} |" in card
    assert "other 24 were trained on" in card
    assert re.search(r"^model.drop_path_rate: 0.1$", card, re.MULTILINE)
    assert str(kept_image_folder) not in card

    loaded, original = load_model(folder).model.state_dict(), load_model(run).model.state_dict()
    assert all((loaded[name] - value).abs().max() <= 1e-3 * value.abs().max() for name, value in original.items())


def test_the_card_of_a_run_from_another_runs_weights_tells_of_both(run, kept_image_folder, tmp_path):
    again = one_epoch(kept_image_folder, tmp_path / "again", pretrained=str(run))
    tool.make(again, str(kept_image_folder), tmp_path)
    card = (tmp_path / "src/volo/models/weights/shipped/volo_micro_32.cifar10/README.md").read_text()
    first, second = card.index("--recipe cifar10-tiny`, 1 epochs"), card.index("--recipe cifar10-tiny-again`, 1 epochs")
    assert first < second
    assert 'model.pretrained: "FIRST"' in card
    assert re.search(r"those of epoch [12] of 2,", card)
    losses = [row["train_loss"] for row in tool.all_epochs(tool.stages(again))]
    assert [f"| {place} | {loss:.3f} |" in card for place, loss in enumerate(losses, 1)] == [True, True]


def test_a_run_on_other_images_is_warned_of(run, image_folder, tmp_path, capsys):
    tool.make(run, str(image_folder), tmp_path)
    assert f"make sure that it did not train on the images of {image_folder}" in capsys.readouterr().out


def test_a_model_of_no_named_size_is_refused(run, kept_image_folder, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("train.json", "metrics.csv"):
        (other / name).write_bytes((run / name).read_bytes())
    trained, model = load_model(run), create_model("volo_micro_32", num_classes=3, dims=(32, 64))
    about = {"class_names": trained.class_names, "preprocessing": trained.preprocessing}
    save_model(other, model.config, model.state_dict(), **about)
    with pytest.raises(
        ValueError, match=r"models/config\.py has no variant with this configuration; add a row to VARIANTS: VOLOConf"
    ):
        tool.make(other, str(kept_image_folder), tmp_path)
    assert not (tmp_path / "src").exists()
