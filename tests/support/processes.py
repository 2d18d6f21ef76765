"""``volo`` in processes of its own, which tests kill, starve and signal. Its pictures are blank."""

import csv
import multiprocessing
import os
import socket
import sys

import torch
from pictures import draw_no_pictures
from safetensors.torch import load_file

from volo.tasks.classification import ClassificationTask

#: Everything heavy is imported once, by the server that the processes are forked from.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["volo.training.run", "volo.cli.training.train"])

TINY = (
    "--model.name=volo_micro_32",
    "--model.drop_path_rate=0.2",
    "--accelerator=cpu",
    "--data.workers=0",
    "--batch_size=4",
    "--optim.warmup_epochs=0.5",
)


class Volo:
    """One running command ``volo``, whose output goes to a file in ``folder``; ``prepare(*extra)`` is called first."""

    def __init__(self, folder, *arguments, prepare=None, extra=()):
        self.command = [str(argument) for argument in arguments]
        self.file = folder / "output.txt"
        self.process = _CONTEXT.Process(target=_main, args=(self.command, str(self.file), prepare, extra))
        self.process.start()

    def end(self, timeout=240):
        """Wait. Returns the exit code, negative for a signal, and all that was printed."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"volo {' '.join(self.command)} does not end; it printed\n{self.file.read_text()}")
        return self.process.exitcode, self.file.read_text()


def _main(arguments, file, prepare, extra):
    from volo.cli import main

    output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    multiprocessing.set_start_method("fork", force=True)  # loading processes inherit what prepare does
    torch.set_num_threads(1)
    draw_no_pictures()
    if prepare is not None:
        prepare(*extra)
    sys.exit(main(arguments))


def volo(folder, *arguments, prepare=None, extra=()):
    """Run ``volo`` to its end: the exit code and what was printed."""
    return Volo(folder, *arguments, prepare=prepare, extra=extra).end()


def run_apart(target, *arguments, timeout):
    """Run a function in a process of its own. Returns its exit code, negative for a signal, None for no end."""
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def rows(run):
    """The rows of ``metrics.csv`` without the clock's."""
    with (run / "metrics.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
            for row in csv.DictReader(file)
        ]


def checkpoint(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def assert_same_end(one, other):
    """Both runs left the same figures and, bit for bit, the same weights, optimizer and average."""
    assert rows(one) == rows(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert load_file(one / "model.safetensors")
    first, second = checkpoint(one), checkpoint(other)
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        _assert_same(first.get(part), second.get(part), part)


def _assert_same(one, other, where):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            _assert_same(first, second, f"{where}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def together(folder, count, *arguments, prepare=None, extra=()):
    """Run ``volo`` in ``count`` processes, as torchrun starts them: exit codes and what each printed, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(count):
        (folder / f"rank{rank}").mkdir(exist_ok=True)
        given = (rank, count, port, prepare, extra)
        running.append(Volo(folder / f"rank{rank}", *arguments, prepare=_as_torchrun, extra=given))
    return tuple(zip(*(process.end() for process in running), strict=True))


def _as_torchrun(rank, count, port, prepare, extra):
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    if prepare is not None:
        prepare(*extra)


def at(owner, name, count, act):
    """Call ``act`` when ``owner.name`` is called for the ``count``-th time, counted from 0."""
    original, calls = getattr(owner, name), iter(range(10**9))

    def wrapped(*arguments, **options):
        if next(calls) == count:
            act(*arguments, **options)
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def poison(batch, value):
    """Let the loss of a batch be ``value``."""
    original, calls = ClassificationTask.training_step, iter(range(10**9))

    def step(*arguments):
        loss = original(*arguments)
        return loss * value if next(calls) == batch else loss

    ClassificationTask.training_step = step


def signal_itself(number, batch):
    at(ClassificationTask, "training_step", batch, lambda *_: os.kill(os.getpid(), number))
