"""What a run needs of the machine it is on, checked before anything is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from rich.console import Console

from volo.data import open_parts
from volo.data.splits import UNSPLIT
from volo.training.config import DataConfig, TrainConfig

LOCK_FILE = ".lock"


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_of_workers(config: TrainConfig, console: Console) -> None:
    """Say it where more loading processes are asked for than there are cores: slower, yet the same run."""
    workers, cores = config.data.workers or 0, available_cores()
    if workers > cores:
        console.print(
            f"warning: data.workers {workers} is more than the {cores} cores of this machine; they will wait for each "
            "other",
            highlight=False,
            soft_wrap=True,
        )


def check_device(config: TrainConfig, trainer: pl.Trainer) -> None:
    """Refuse what the device of the run cannot do.

    Raises:
        ValueError: its precision, or BatchNorm over all devices where these are no GPUs.
    """
    device = trainer.strategy.root_device
    # Lightning puts another precision in the place of one that the device lacks.
    refused = trainer.precision != config.precision
    if config.precision == "bf16-mixed" and device.type == "cuda":
        refused = not torch.cuda.is_bf16_supported(including_emulation=False)
    if refused:
        other = "bf16-mixed" if config.precision == "16-mixed" else "16-mixed"
        raise ValueError(
            f"this device ({device.type}) cannot train in precision {config.precision}; take {other} or 32-true"
        )
    if config.sync_batchnorm and device.type != "cuda":
        raise ValueError(f"sync_batchnorm needs GPUs, and this run is on {device.type}; leave it out")


def check_apart(folder: Path, data: DataConfig) -> None:
    """See that a run is not written among the class folders of its images, where it would be a class the next time.

    Raises:
        ValueError: it would be.
    """
    place = Path(data.path)
    among = place.is_dir() and folder.resolve().is_relative_to(place.resolve())
    if among and UNSPLIT in open_parts(data.path, source=data):
        raise ValueError(f"{folder} would lie among the class folders in {data.path}; choose another --output")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a run folder for this process. The system gives it free when the process ends, however it ends.

    Raises:
        ValueError: another process has it.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder} is in use by another run; wait for its end or choose another --output") from error
    try:
        yield
    finally:
        lock.release()
