"""Files that commit cfc38e8 wrote load as before: run folders, checkpoints, label stores and exported files."""

import csv
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import checkpoint
from safetensors.torch import load_file

from volo.cli import main

OLD = Path(__file__).with_name("cfc38e8")
#: Probabilities and weights may differ by this much between processors, whose sums have another order.
BOUND = 1e-4


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the files as the current folder: the paths in them are relative to it."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def same_machine():
    """Whether this machine computes the same bits: PyTorch and the processor are those that wrote the files."""
    wrote = json.loads((OLD / "machine.json").read_text())
    cpuinfo = Path("/proc/cpuinfo")
    return (
        wrote["torch"] == torch.__version__
        and wrote["system"] == platform.machine()
        and wrote["capability"] == torch.backends.cpu.get_cpu_capability()
        and cpuinfo.exists()
        and wrote["processor"] in cpuinfo.read_text()
    )


def probabilities(file):
    """Image → class → probability, of a JSON file that ``volo predict`` wrote."""
    return {
        record["image"]: {answer["name"]: answer["probability"] for answer in record["predictions"]}
        for record in json.loads(Path(file).read_text())
    }


def assert_same_predictions(file):
    now, before = probabilities(file), probabilities("predictions.json")
    assert now.keys() == before.keys()
    for image, answers in before.items():
        assert now[image] == pytest.approx(answers, abs=BOUND)


def figures(run):
    """The rows of ``metrics.csv`` as numbers, without those of the clock."""
    with (Path(run) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    clocks = ("seconds", "images_per_second")
    return [{name: float(value) for name, value in row.items() if name not in clocks} for row in rows]


@pytest.mark.parametrize("model", ["run", "stopped", "resumed", "run.onnx", "run.xml", "run.pt2"])
def test_models_predict_as_before(old, model):
    assert main(["predict", model, "images/val", "--output", "now.json"]) == 0
    if model in ("stopped", "resumed"):  # of another epoch, or none the worse for the interruption
        assert probabilities("now.json").keys() == probabilities("predictions.json").keys()
    else:
        assert_same_predictions("now.json")


@pytest.mark.parametrize("model", ["run", "run.onnx"])
def test_evaluation_gives_the_scores_of_the_run(old, model):
    assert main(["eval", model, "images", "--output", "scores"]) == 0
    now, before = (json.loads((Path(folder) / "results.json").read_text()) for folder in ("scores", "run"))
    for name in ("top1", "loss", "images"):
        assert now[name] == pytest.approx(before[name], abs=BOUND)


def test_a_stopped_run_resumes_bit_for_bit(old):
    best = load_file("stopped/model.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as when the files were written
    try:
        assert main(["train", "--resume", "stopped"]) == 0
    finally:
        torch.set_num_threads(threads)
    now, before = figures("stopped"), figures("resumed")
    assert [row["step"] for row in now] == [row["step"] for row in before] == [3, 6]
    for row, expected in zip(now, before, strict=True):
        assert row == pytest.approx(expected, abs=BOUND)
    # The old run was resumed in a copied folder, where its version forgot the best epoch, and so kept the last one.
    state, expected = checkpoint(Path("stopped"))["state_dict"], load_file("resumed/model.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        if same_machine():
            assert torch.equal(weights[name], tensor), name
        else:
            torch.testing.assert_close(weights[name], tensor, atol=BOUND, rtol=0)
    kept = load_file("stopped/model.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in best.items())


def test_runs_compare(old, capsys):
    assert main(["compare", "run", "resumed"]) == 0
    assert "precision" not in capsys.readouterr().out  # both computed in the same


@pytest.mark.parametrize("model", ["segmenter", "segmenter.onnx"])
def test_a_segmenter_gives_the_same_masks(old, model):
    """The model folder and the file keep ``class_colours`` in the spelling of their day."""
    assert main(["predict", model, "scenes/val/images", "--output", "now"]) == 0
    for path in (old / "masks" / "masks").iterdir():
        now, before = (Image.open(file) for file in (old / "now" / "masks" / path.name, path))
        assert np.mean(np.asarray(now) == np.asarray(before)) > 0.998
        assert now.getpalette() == before.getpalette()


def test_a_segmenter_is_evaluated(old):
    assert main(["eval", "segmenter", "scenes", "--output", "scores"]) == 0
    now, before = (json.loads((Path(folder) / "results.json").read_text()) for folder in ("scores", "segmenter"))
    assert now["miou"] == pytest.approx(before["miou"], abs=BOUND)


def test_a_label_store_fits_its_images_and_trains(old):
    assert main(["label", "images", "--out", "labels.volo", "--check"]) == 0
    settings = ["--model.name=volo_micro_32", "--model.dims=[8,16]", "--model.depths=[1,1,1,1]", "--model.heads=[1,2]"]
    settings += ["--data.token_labels=labels.volo", "--epochs=1", "--optim.warmup_epochs=0", "--batch_size=4"]
    assert main(["train", "images", "--output=labelled", "--data.workers=0", "--accelerator=cpu", *settings]) == 0
