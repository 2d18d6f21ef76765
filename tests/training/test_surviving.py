"""Runs that are killed, stopped, starved of space or of a loading process, or that diverge."""

import contextlib
import math
import os
import random
import resource
import signal
import subprocess
import time

import pytest
import torch
from processes import TINY, Volo, assert_same_end, at, checkpoint, poison, signal_itself, volo

from volo.data import EvalImages, TrainImages
from volo.tasks.classification import ClassificationTask
from volo.training import classification
from volo.training.callbacks import record
from volo.training.datamodule import RunData

#: Three epochs of three optimizer steps, two batches each; a checkpoint after every step.
RUN = (*TINY, "--epochs=3", "--accumulate=2", "--optim.ema_decay=0.8", "--checkpoint_steps=1")

KILL = signal.SIGKILL


def kill(*arguments, **options):
    os.kill(os.getpid(), KILL)


def write_half_and_die(value, file):
    file.write(os.urandom(100_000))
    file.flush()
    kill()


#: What happens in a run → how often, and how to die at one of these moments.
MOMENTS = {
    "training": (18, lambda n: at(ClassificationTask, "training_step", n, kill)),
    "validation": (9, lambda n: at(ClassificationTask, "validation_step", n, kill)),
    "half a checkpoint": (12, lambda n: at(torch, "save", n, write_half_and_die)),
    "a checkpoint before or after it is renamed": (24, lambda n: at(os, "fsync", n, kill)),
    "figures written, epoch not saved": (3, lambda n: at(record, "draw_curves", n, kill)),
    "evaluation": (1, lambda n: at(classification, "evaluate", n, kill)),
}


def die(moment, count):
    MOMENTS[moment][1](count)


@pytest.fixture(scope="module")
def whole(kept_image_folder, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert volo(folder, "train", kept_image_folder, f"--output={folder / 'run'}", *RUN)[0] == 0
    return folder / "run"


def train(images, folder):
    return ("train", images, f"--output={folder / 'run'}", *RUN)


def resume(folder):
    return ("train", "--resume", folder / "run")


def train_and_die(images, folder, deaths):
    """Train, die at each of these moments and resume; return the number of deaths that happened."""
    command, died = train(images, folder), 0
    for death in deaths:
        code, printed = volo(folder, *command, prepare=die, extra=death)
        assert code in (0, -KILL), printed
        died += code == -KILL
        command = resume(folder)
    assert volo(folder, *command)[0] == 0
    return died


def assert_nothing_is_left_over(whole, run):
    assert {path.name for path in run.rglob("*")} == {path.name for path in whole.rglob("*")}


def test_a_run_killed_at_every_kind_of_moment_ends_like_one_never_killed(kept_image_folder, whole, tmp_path):
    deaths = [
        ("training", 1),  # before the first checkpoint, in the middle of an accumulation
        ("half a checkpoint", 0),
        ("training", 4),
        ("a checkpoint before or after it is renamed", 0),
        ("validation", 1),
        ("figures written, epoch not saved", 0),
        ("a checkpoint before or after it is renamed", 3),
        ("evaluation", 0),
    ]
    assert train_and_die(kept_image_folder, tmp_path, deaths) == len(deaths)
    assert_same_end(whole, tmp_path / "run")
    assert_nothing_is_left_over(whole, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_random_moments_ends_like_one_never_killed(kept_image_folder, whole, tmp_path, seed):
    draw = random.Random(seed)
    deaths = []
    for _ in range(6):
        moment, (times, _) = draw.choice(list(MOMENTS.items()))
        deaths.append((moment, draw.randrange(min(times, 6))))
    assert train_and_die(kept_image_folder, tmp_path, deaths) >= 3
    assert_same_end(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_run_killed_by_the_clock_ends_like_one_never_killed(kept_image_folder, whole, tmp_path):
    draw, died = random.Random(0), 0
    command = train(kept_image_folder, tmp_path)
    for _ in range(30):
        running = Volo(tmp_path, *command)
        time.sleep(draw.uniform(0.3, 2.0))
        running.process.kill()
        died += running.end()[0] == -KILL
        if (tmp_path / "run/train.json").exists():
            command = resume(tmp_path)
    assert volo(tmp_path, *command)[0] == 0
    assert died >= 5
    assert_same_end(whole, tmp_path / "run")


@pytest.mark.parametrize("batch", [6, 11])  # the first of an epoch and of an accumulation; the last of an epoch
def test_sigterm_saves_and_prints_how_to_resume(kept_image_folder, whole, tmp_path, batch):
    code, printed = volo(
        tmp_path, *train(kept_image_folder, tmp_path), prepare=signal_itself, extra=(signal.SIGTERM, batch)
    )
    assert code == 128 + signal.SIGTERM
    assert printed.splitlines()[-1] == (
        f"stopped by SIGTERM and saved; resume with: volo train --resume {tmp_path / 'run'}"
    )
    assert checkpoint(tmp_path / "run")["global_step"] == (batch + 2) // 2
    assert volo(tmp_path, *resume(tmp_path))[0] == 0
    assert_same_end(whole, tmp_path / "run")


def signal_the_group(number, batch):
    """As a terminal does it and SLURM: the loading processes get the signal too."""
    os.setpgrp()

    def act(*_):
        subprocess.run(["kill", f"-{number:d}", "--", f"-{os.getpgrp()}"], check=True, start_new_session=True)
        time.sleep(0.5)

    at(ClassificationTask, "training_step", batch, act)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_loading_processes_too_saves(kept_image_folder, whole, tmp_path, number):
    command = (*train(kept_image_folder, tmp_path), "--data.workers=2")
    code, printed = volo(tmp_path, *command, prepare=signal_the_group, extra=(number, 6))
    assert code == 128 + number, printed
    assert "Traceback" not in printed
    assert checkpoint(tmp_path / "run")["global_step"] == 4


def signal_while_the_data_are_opened():
    at(RunData, "train_dataloader", 0, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def test_sigterm_before_the_first_step_leaves_the_run_as_it_was(kept_image_folder, tmp_path):
    code, printed = volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=signal_while_the_data_are_opened)
    assert code == 128 + signal.SIGTERM
    assert printed.splitlines()[-1].startswith("stopped by SIGTERM")


def in_slurm(folder, batch):
    """As srun starts the one process of job 77, with an ``scontrol`` that writes down what it is told."""
    command = folder / "bin/scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" > {folder / "told.txt"}\n')
    command.chmod(0o755)
    os.environ["PATH"] = f"{command.parent}:{os.environ['PATH']}"
    os.environ |= {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"}
    os.environ |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "volo"}
    signal_itself(signal.SIGUSR1, batch)


def test_sigusr1_under_slurm_saves_and_queues_the_job_again(kept_image_folder, whole, tmp_path):
    code, printed = volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=in_slurm, extra=(tmp_path, 2))
    assert code == 128 + signal.SIGUSR1, printed
    assert printed.splitlines()[-1] == "stopped by SIGUSR1 and saved; SLURM has queued it again"
    assert (tmp_path / "told.txt").read_text() == "requeue 77\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))  # Lightning's own way does not run beside ours
    assert volo(tmp_path, *resume(tmp_path))[0] == 0
    assert_same_end(whole, tmp_path / "run")


def small_files():
    """No file may grow beyond a megabyte from now on: what a full disk does to a checkpoint."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(kept_image_folder, whole, tmp_path):
    volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=signal_itself, extra=(signal.SIGTERM, 6))
    saved = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    assert len(saved) > 10**6
    code, printed = volo(tmp_path, *resume(tmp_path), prepare=small_files)
    assert code == 1
    last = printed.splitlines()[-1]
    assert (
        f"cannot save {tmp_path / 'run/checkpoints/last.ckpt'}: File too large; the checkpoint saved before is intact"
        in last
    )
    assert f"resume with: volo train --resume {tmp_path / 'run'}" in last
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == saved
    assert not list((tmp_path / "run").rglob(".*.*"))
    assert volo(tmp_path, *resume(tmp_path))[0] == 0
    assert_same_end(whole, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_leaves_the_last_good_checkpoint(kept_image_folder, whole, tmp_path):
    (tmp_path / "run").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", tmp_path / "run"], check=True)
    try:
        volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=signal_itself, extra=(signal.SIGTERM, 6))
        ballast = tmp_path / "run/ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(10_000))
        code, printed = volo(tmp_path, *resume(tmp_path))
        assert code == 1
        assert "No space left on device" in printed.splitlines()[-1]
        assert not list((tmp_path / "run").rglob(".*.*"))
        ballast.unlink()
        assert volo(tmp_path, *resume(tmp_path))[0] == 0
        assert_same_end(whole, tmp_path / "run")
    finally:
        subprocess.run(["umount", tmp_path / "run"], check=True)


@pytest.mark.parametrize(("value", "batch"), [("nan", 8), ("inf", 11)])
def test_a_loss_that_is_not_finite_stops_the_run_names_its_batch_and_keeps_the_good_checkpoint(
    kept_image_folder, tmp_path, value, batch
):
    code, printed = volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=poison, extra=(batch, float(value)))
    last = printed.splitlines()[-1]
    assert code == 1
    assert f"Diverged: the loss is {value} in epoch 2, batch {batch - 5} of 6, step {(batch + 1) // 2}, images" in last
    assert last.count(str(kept_image_folder / "train")) == 4
    assert f"{tmp_path / 'run/checkpoints/last.ckpt'} was saved before" in last
    state = checkpoint(tmp_path / "run")
    assert state["global_step"] == batch // 2
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())


def ruin_a_weight(step):
    """Make a weight infinite in an optimizer step whose loss is finite."""

    def ruin(self, *_):
        with torch.no_grad():
            self.model.head.weight[0, 0] = math.inf

    at(ClassificationTask, "lr_scheduler_step", step, ruin)


def test_a_weight_that_is_not_finite_is_not_saved(kept_image_folder, tmp_path):
    code, printed = volo(tmp_path, *train(kept_image_folder, tmp_path), prepare=ruin_a_weight, extra=(3,))
    assert code == 1
    assert "model.head.weight are no longer finite after step 4" in printed.splitlines()[-1]
    assert checkpoint(tmp_path / "run")["global_step"] == 3


@pytest.mark.parametrize("images", [TrainImages, EvalImages])
def test_a_loading_process_that_dies_is_reported(kept_image_folder, whole, tmp_path, images):
    code, printed = volo(
        tmp_path,
        *train(kept_image_folder, tmp_path),
        "--data.workers=1",
        prepare=at,
        extra=(images, "__getitem__", 6, kill),
    )
    assert code == 1
    last = printed.splitlines()[-1]
    assert "a process that loads images died (DataLoader worker" in last
    assert "use fewer workers than 1" in last
    assert f"resume with: volo train --resume {tmp_path / 'run'} --workers N" in last
    assert volo(tmp_path, *resume(tmp_path), "--data.workers=0")[0] == 0
    assert_same_end(whole, tmp_path / "run")


def lose(paths):
    at(ClassificationTask, "training_step", 2, lambda *_: [path.unlink() for path in paths])


def test_images_that_vanish_are_named_and_counted(image_folder, tmp_path):
    gone = [image_folder / "train/red/00.png", image_folder / "train/blue/01.png", image_folder / "val/red/00.png"]
    code, printed = volo(tmp_path, *train(image_folder, tmp_path), prepare=lose, extra=(gone,))
    assert code == 0
    for path in gone:
        assert printed.count(f"warning: cannot read image {path}: No such file or directory; left out") == 1
    assert "3 unreadable images were left out" in printed


def test_a_folder_of_images_that_vanishes_ends_the_run(image_folder, tmp_path):
    everything = list((image_folder / "train").rglob("*.png"))
    code, printed = volo(tmp_path, *train(image_folder, tmp_path), prepare=lose, extra=(everything,))
    assert code == 2
    assert "not one of the training images can be read; cannot read image" in printed.splitlines()[-1]
