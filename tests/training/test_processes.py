"""Several processes that train together."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import TINY, assert_same_end, checkpoint, poison, rows, signal_itself, together, volo
from safetensors.torch import load_file
from torch import nn

from volo.inference import Predictor
from volo.tasks.classification import ClassificationTask
from volo.training import run

#: Three epochs; the global batch is 8.
EXACT = (
    *TINY,
    "--model.drop_path_rate=0",
    "--loss.mix_token=false",
    "--augment.erasing=0",
    "--epochs=3",
)


def freeze_batchnorm():
    """Let the stem's BatchNorm normalize as in evaluation, since its statistics are those of a process's own batch."""
    original = ClassificationTask.on_train_batch_start

    def start(self, batch, batch_idx):
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        original(self, batch, batch_idx)

    ClassificationTask.on_train_batch_start = start


@pytest.fixture(scope="module")
def alone(kept_image_folder, tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    command = ("train", kept_image_folder, f"--output={folder / 'run'}", *EXACT, "--batch_size=8")
    assert volo(folder, *command, prepare=freeze_batchnorm)[0] == 0
    return folder / "run"


@pytest.mark.parametrize(("strategy", "count"), [("ddp", 2), ("ddp", 4), ("fsdp2", 2)])
def test_several_processes_follow_the_curve_of_one(kept_image_folder, alone, tmp_path, strategy, count):
    codes, printed = together(
        tmp_path, count,
        "train", kept_image_folder, f"--output={tmp_path / 'run'}", *EXACT,
        f"--strategy={strategy}", f"--batch_size={8 // count}",
        prepare=freeze_batchnorm,
    )  # fmt: skip
    assert codes == (0,) * count, printed
    assert "24 training and 12 validation images of 3 classes; batch 8 (" in printed[0]
    assert printed[1:] == ("",) * (count - 1)  # only the first process reports
    for one, other in zip(rows(alone), rows(tmp_path / "run"), strict=True):
        assert {name: float(value) for name, value in other.items()} == pytest.approx(
            {name: float(value) for name, value in one.items()}, rel=1e-5, abs=1e-6
        )


def test_accumulated_batches_are_those_of_one_step_where_images_are_left_over(kept_image_folder, tmp_path):
    """24 images, global batches of 10: two steps an epoch, however they are made up."""
    figures = []
    for count, batch, accumulate in ((1, 10, 1), (1, 2, 5), (2, 1, 5)):
        folder = tmp_path / f"{count}x{accumulate}"
        folder.mkdir()
        codes, printed = together(
            folder, count,
            "train", kept_image_folder, f"--output={folder / 'run'}", *EXACT, "--optim.interval=epoch",
            f"--batch_size={batch}", f"--accumulate={accumulate}",
            prepare=freeze_batchnorm,
        )  # fmt: skip
        assert codes == (0,) * count, printed
        figures.append([[float(value) for value in row.values()] for row in rows(folder / "run")])
    assert [row[:2] for row in figures[0]] == [[1, 2], [2, 4], [3, 6]]  # epoch and step
    for other in figures[1:]:
        assert other == [pytest.approx(row, rel=1e-5, abs=1e-6) for row in figures[0]]


@pytest.mark.parametrize(("strategy", "decay"), [("ddp", 0.8), ("fsdp2", 0.0)])
def test_a_signal_to_one_process_stops_all_and_the_resumed_run_ends_the_same(image_folder, tmp_path, strategy, decay):
    # Processes with different numbers of validation batches: 4 and 3.
    shutil.copy(image_folder / "val/red/00.png", image_folder / "val/red/more.png")
    options = (*TINY, "--epochs=2", "--batch_size=2", f"--strategy={strategy}", f"--optim.ema_decay={decay}")
    folders = tmp_path / "whole", tmp_path / "stopped"
    for folder in folders:
        folder.mkdir()
    command = ("train", image_folder, *options)
    codes, printed = together(folders[0], 2, *command, f"--output={folders[0] / 'run'}", prepare=only_first_writes)
    assert codes == (0, 0), printed

    codes, printed = together(
        folders[1], 2, *command, f"--output={folders[1] / 'run'}", prepare=signal_second, extra=(signal.SIGTERM, 7)
    )
    assert codes == (143, 143), printed
    assert "stopped by SIGTERM and saved" in printed[0]
    assert printed[1] == ""
    assert checkpoint(folders[1] / "run")["global_step"] == 10  # the processes decide together, every ten steps
    code, printed = volo(tmp_path, "train", "--resume", folders[1] / "run")
    assert code == 2
    assert "the run was trained by 2 processes and must be resumed with as many, not with 1" in printed
    codes, printed = together(folders[1], 2, "train", "--resume", folders[1] / "run")
    assert codes == (0, 0), printed

    assert_same_end(folders[0] / "run", folders[1] / "run")
    assert Predictor(folders[1] / "run")(image_folder / "val/green/00.png").name in ("blue", "green", "red")


def only_first_writes():
    """Let the second process fail if it writes; the first removes temporary files when it begins."""
    if os.environ["RANK"] == "1":
        run.atomic_write = None


def signal_second(number, batch):
    if os.environ["RANK"] == "1":
        signal_itself(number, batch)


def poison_second(batch, value):
    if os.environ["RANK"] == "1":
        poison(batch, value)


def test_a_nan_loss_in_one_process_stops_all(kept_image_folder, tmp_path):
    command = ("train", kept_image_folder, f"--output={tmp_path / 'run'}", *TINY, "--epochs=3", "--strategy=ddp")
    codes, printed = together(tmp_path, 2, *command, prepare=poison_second, extra=(1, float("nan")))
    assert codes == (1, 1)
    assert "Diverged: the loss of another process is not finite" in printed[0]
    assert "Diverged: the loss is nan in epoch 1, batch 2 of 3" in printed[1]


def test_another_number_of_processes_than_was_started_is_refused(kept_image_folder, tmp_path):
    codes, printed = together(
        tmp_path, 2, "train", kept_image_folder, f"--output={tmp_path / 'run'}", *TINY, "--devices=3"
    )
    assert codes == (2, 2)
    assert "torchrun has started 2 processes on each of 1 nodes, but devices is 3 and nodes is 1" in printed[0]


def launched(command, images, run, *options, timeout=300, **environment):
    """Train by a launcher of its own; returns what was printed and the rows of figures."""
    arguments = ["-m", "volo", "train", images, f"--output={run}", *TINY, "--epochs=2", *options]
    result = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert result.returncode == 0, result.stderr
    with (run / "metrics.csv").open() as file:
        return result.stdout, list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "lightning"])
def test_launchers_start_processes_that_train_together(kept_image_folder, tmp_path, launcher):
    if launcher == "torchrun":
        command, options = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"], ()
    else:
        command, options = [sys.executable], ("--devices=2", "--strategy=ddp")
    out, figures = launched(command, kept_image_folder, tmp_path / "run", *options)
    assert out.count("24 training and 12 validation images") == 1
    assert out.count("best epoch") == 1
    assert "batch 8" in out
    assert [row["step"] for row in figures] == ["3", "6"]


@pytest.mark.slow
def test_a_dry_run_of_several_processes_reports_once(kept_image_folder):
    command = [sys.executable, "-m", "volo", "train", kept_image_folder, *TINY, "--dry-run", "--devices=2"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("a dry run, nothing is kept") == result.stdout.count("peak memory") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--strategy=ddp", "--precision=bf16-mixed", "--accumulate=3", "--optim.ema_decay=0.9"),
        ("--strategy=ddp", "--precision=bf16-mixed", "--model.grad_checkpointing=true"),
        ("--strategy=fsdp2", "--precision=bf16-mixed", "--accumulate=3"),
        ("--strategy=fsdp2", "--precision=bf16-mixed", "--model.grad_checkpointing=true"),
    ],
)
def test_precision_accumulation_and_checkpointing_work_together(kept_image_folder, tmp_path, options):
    command = ("train", kept_image_folder, f"--output={tmp_path / 'run'}", *TINY, "--epochs=8", *options)
    codes, printed = together(tmp_path, 2, *command)
    assert codes == (0, 0), printed
    figures = rows(tmp_path / "run")
    assert float(figures[-1]["val_loss"]) < float(figures[0]["val_loss"])
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "run/model.safetensors").values())


@pytest.fixture
def two_nodes():
    """Two network namespaces with an address each, joined by a cable: to each other, two machines."""
    names, addresses = ("volo-a", "volo-b"), ("10.77.0.1", "10.77.0.2")

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "volo0", "netns", names[0], "type", "veth", "peer", "name", "volo0", "netns", names[1])
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "volo0")
            ip("-n", name, "link", "set", "volo0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names, addresses[0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="only root makes network namespaces")
def test_two_nodes_train_together(kept_image_folder, alone, tmp_path, two_nodes):
    names, main = two_nodes
    arguments = ["train", kept_image_folder, f"--output={tmp_path / 'run'}", *EXACT, "--batch_size=4"]
    script = tmp_path / "train.py"
    script.write_text(
        f"import sys\nsys.path[:0] = {[*sys.path, str(Path(__file__).parent)]!r}\n"
        "from test_processes import freeze_batchnorm\nfrom volo.cli import main\n"
        "freeze_batchnorm()\nsys.exit(main())\n"
    )
    torchrun = [
        "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", f"--master_addr={main}", "--master_port=29777",
    ]  # fmt: skip
    nodes = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", *torchrun, f"--node_rank={rank}", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "volo0", "TP_SOCKET_IFNAME": "volo0"},
        )
        for rank, name in enumerate(names)
    ]
    printed = []
    try:
        printed = [node.communicate(timeout=240)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert "× nodes 2)" in printed[0]
    for one, other in zip(rows(alone), rows(tmp_path / "run"), strict=True):
        assert float(other["train_loss"]) == pytest.approx(float(one["train_loss"]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="synchronized BatchNorm runs on GPUs")
def test_synchronized_batchnorm_sees_the_whole_batch(kept_image_folder, tmp_path):
    out, _ = launched(
        [sys.executable], kept_image_folder, tmp_path / "run", "--accelerator=gpu", "--sync_batchnorm=true"
    )
    assert "best epoch" in out
