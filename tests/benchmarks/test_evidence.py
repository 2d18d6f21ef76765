"""The experiments of docs/evidence.md: what is compared is comparable, and a stopped run is resumed exactly."""

import argparse
import json
import signal
from dataclasses import replace
from functools import partial

import evidence
import pytest
import timm
import torch
from evidence_report import report
from experiment import RESULT, TIMES, Variant, train_table, train_variant, whole_epochs
from first_stage import convolution, count, replace_outlookers, window_attention
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from timm_peers import RESNET, VIT, train_baseline

from volo.data import AugmentConfig, open_data
from volo.models import create_model
from volo.tasks.losses import LossConfig
from volo.training.callbacks.checkpoints import Interrupted
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig

QUIET = Console(quiet=True)


@pytest.mark.parametrize("replacement", [convolution, window_attention])
def test_alternatives_have_the_parameters_of_outlook_attention_and_nothing_else_changes(replacement):
    torch.manual_seed(0)
    model = create_model("volo_micro_32")
    attention, before = count(model.network[0][0].attn), {name: p.clone() for name, p in model.state_dict().items()}
    replace_outlookers(model, replacement, seed=0)
    assert [count(block.attn) for block in model.network[0]] == pytest.approx([attention] * 2, rel=0.005)
    after = model.state_dict()
    kept = [name for name in before if not (name.startswith("network.0") and ".attn." in name)]
    assert {name for name in after if not (name.startswith("network.0") and ".attn." in name)} == set(kept)
    assert all(torch.equal(after[name], before[name]) for name in kept)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.network[0].parameters() if p.ndim > 1)


def test_every_other_block_of_windows_looks_across_the_borders_of_the_others():
    model = create_model("volo_micro_32")
    replace_outlookers(model, window_attention, seed=0)
    tokens = torch.randn(1, 8, 8, 64, requires_grad=True)
    for block, reach in zip(model.network[0], (range(4), range(2, 6)), strict=True):
        place = max(reach)
        (gradient,) = torch.autograd.grad(block(tokens)[0, place, place].sum(), tokens)
        seen = gradient[0].abs().sum(-1) > 0
        assert seen.sum() == 16
        assert seen[min(reach) : place + 1, min(reach) : place + 1].all()


def test_the_dense_teacher_sees_what_it_was_trained_to_see_at_every_other_place():
    torch.manual_seed(0)
    trained, dense = (timm.create_model(name).eval() for name in (RESNET.name, f"{RESNET.name}_dense"))
    for module in trained.modules():  # fresh ones pass no signal through their blocks
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
    dense.load_state_dict(trained.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        coarse, fine = trained.forward_features(images), dense.forward_features(images)
    assert fine.shape[2:] == (8, 8)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse)


def test_peers_are_no_larger_than_the_volo_beside_them_may_be():
    for baseline in (RESNET, VIT):
        assert count(timm.create_model(baseline.name, num_classes=10, **baseline.options)) < 4.05e6


def test_a_peer_has_the_batches_and_the_rate_of_all_processes_of_the_run_in_one(small):
    config = evidence.by_one_process(replace(small, batch_size=64, devices=2, data=replace(small.data, workers=3)))
    assert (config.batch_size, config.devices, config.nodes, config.data.workers) == (128, 1, 1, 0)
    assert evidence.baseline_config(config, RESNET).optim.lr == RESNET.lr
    assert evidence.by_one_process(replace(small, devices="auto")).batch_size == small.batch_size


@pytest.mark.parametrize(("seconds", "each", "epochs"), [(60, 10, 6), (60, 10.4, 6), (60, 20, 3), (60, 300, 1)])
def test_all_get_the_same_time_in_whole_epochs(seconds, each, epochs):
    assert whole_epochs(seconds, each) == epochs


class StopAt(Callback):
    """Asks the run to stop at a batch."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            signal.raise_signal(signal.SIGTERM)


def stopping(run, change, batch):
    change(run)
    run.trainer.callbacks.insert(0, StopAt(batch))


def outlookers_replaced(run):
    replace_outlookers(run.task.model, convolution, run.config.seed)


@pytest.fixture
def small(kept_image_folder):
    return TrainConfig(
        data=DataConfig(path=str(kept_image_folder), workers=0),
        model=ModelConfig(name="volo_micro_32"),
        augment=AugmentConfig(rand_augment=0.0),
        loss=LossConfig(mix_token=False),
        optim=OptimConfig(warmup_epochs=0.5),
        epochs=2,
        batch_size=4,
        accelerator="cpu",
    )


@pytest.mark.parametrize(
    ("change", "loss"),
    [(outlookers_replaced, {}), (partial(train_baseline, baseline=RESNET), {"dense_weight": 0.0})],
    ids=["first stage", "ResNet"],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(change, loss, small, tmp_path):
    variant = Variant(
        key="a", name="a", config=replace(small, loss=LossConfig(**{"mix_token": False, **loss})), change=change
    )
    whole = train_variant(variant, tmp_path / "whole", QUIET)
    stopped = replace(variant, change=partial(stopping, change=change, batch=8))  # the third of the second epoch
    with pytest.raises(Interrupted):
        train_variant(stopped, tmp_path / "stopped", QUIET)
    resumed = train_variant(variant, tmp_path / "stopped", QUIET)
    for a, b in zip(whole["epochs"], resumed["epochs"], strict=True):
        assert [a[name] for name in ("step", "train_loss", "val_loss")] == [
            b[name] for name in ("step", "train_loss", "val_loss")
        ]
        assert b["cpu_seconds"] > 0


def untouched(run):
    raise AssertionError("what is finished was begun again")


def test_a_table_is_timed_trained_and_not_repeated(small, tmp_path):
    variant = Variant(key="a", name="a", config=replace(small, epochs=1))
    train_table(tmp_path, [variant], seeds=2, seconds=None, console=QUIET)
    times = json.loads((tmp_path / TIMES).read_text())
    assert times["a"] > 0
    results = [json.loads((tmp_path / f"a-{seed}" / RESULT).read_text()) for seed in range(2)]
    assert [result["config"]["seed"] for result in results] == [0, 1]
    assert [len(result["epochs"]) for result in results] == [1, 1]
    train_table(tmp_path, [replace(variant, change=untouched)], seeds=2, seconds=None, console=QUIET)
    assert json.loads((tmp_path / TIMES).read_text()) == times
    with pytest.raises(ValueError, match=r"begun with other settings: optim.warmup_epochs .* epochs 2 \(the run: 1\)"):
        train_variant(variant.of(2, 0), tmp_path / "a-0", QUIET)


def result(key, place, seed, top1):
    epochs = [{"val_top1": score, "cpu_seconds": 30.0} for score in top1]
    return {
        "key": key, "name": f"the {key}", "place": place, "parameters": 1_234_567, "images": [45_000, 5_000],
        "epochs": epochs, "config": {"seed": seed, "precision": "32-true"},
        "machine": {"threads": 1, "cpu": "a CPU", "torch": "2", "timm": "1"},
    }  # fmt: skip


def test_the_report_fills_the_places_of_the_page_and_no_others(tmp_path):
    page = tmp_path / "evidence.md"
    page.write_text("before\n<!-- generated: labels -->\nold\n<!-- end: labels -->\nafter\n")
    for key, place, seed, top1 in (("b", 1, 0, [0.1, 0.5]), ("a", 0, 0, [0.2, 0.3]), ("b", 1, 1, [0.2, 0.6])):
        folder = tmp_path / "out" / "labels" / f"{key}-{seed}"
        folder.mkdir(parents=True)
        (folder / RESULT).write_text(json.dumps(result(key, place, seed, top1)))
    for _ in range(2):  # what it wrote itself is replaced as well
        picture = report(tmp_path / "out", page)[1]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    before, _, rest = page.read_text().partition("| the a")
    assert before.startswith("before\n<!-- generated: labels -->\n| |")
    assert "the last epoch of every run; fp32; a CPU, threads: 1; PyTorch 2, timm 1." in rest
    assert rest.endswith("<!-- end: labels -->\nafter\n")
    assert rest.splitlines()[:2] == [
        " | 1.235 | 2 | 1.0 | 30.00 | 30.00 |",
        "| the b | 1.235 | 2 | 1.0 | 55.00 ± 7.07 | 50.00, 60.00 |",
    ]
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place for labels: write <!-- generated: labels --> and"):
        report(tmp_path / "out", page)
    with pytest.raises(ValueError, match="no run of an experiment has ended"):
        report(tmp_path / "elsewhere", page)


def test_the_split_holds_out_the_last_of_every_class(kept_image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "HELD_OUT", 2)
    options = argparse.Namespace(folder=kept_image_folder / "train", table=tmp_path / "table.csv")
    evidence.split(options, QUIET)
    train, val = open_data(str(options.table))
    assert {path.name for path in val.paths} == {"06.png", "07.png"}
    assert (len(train.paths), len(val.paths)) == (18, 6)
