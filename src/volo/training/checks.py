"""Checks of the device and the run folder, before anything is written, and the lock of the run folder."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from rich.console import Console

from volo.data import open_splits
from volo.data.splits import UNSPLIT
from volo.training.config import LIGHTNING_PRECISIONS, DataConfig, TrainConfig

LOCK_FILE = ".volo-lock"

#: Advice to those whose script trains while a loading process imports it.
MAIN_GUARD = (
    "processes that load images import the script that started them, and the script must not train again then: put "
    "what it does below the line `if __name__ == '__main__':`, or load without processes (data.workers 0)"
)


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_about_workers(config: TrainConfig, console: Console) -> None:
    """Print a warning if the run has more loading processes than cores, which is slower but gives the same result."""
    workers, cores = config.data.workers or 0, available_cores()
    if workers > cores:
        console.print(
            f"warning: data.workers {workers} is more than the {cores} cores of this machine; the processes will wait "
            "for each other",
            highlight=False,
            soft_wrap=True,
        )


def check_device(config: TrainConfig, trainer: pl.Trainer) -> None:
    """Check that the device of the run supports its settings.

    Raises:
        ValueError: The device does not support the precision, or BatchNorm is to be synchronized without GPUs.
    """
    device = trainer.strategy.root_device
    # Lightning silently replaces a precision that the device does not support.
    refused = trainer.precision != LIGHTNING_PRECISIONS[config.precision]
    if config.precision == "bf16" and device.type == "cuda":
        refused = not torch.cuda.is_bf16_supported(including_emulation=False)
    if refused:
        other = "bf16" if config.precision == "fp16" else "fp16"
        raise ValueError(
            f"this device ({device.type}) cannot train in precision {config.precision}; use {other} or fp32"
        )
    if config.sync_batchnorm and device.type != "cuda":
        raise ValueError(f"sync_batchnorm needs GPUs, and this run is on {device.type}; leave it out")


def check_main_module() -> None:
    """End a process that only imports the main module, because a loading process starts so on this system.

    Raises:
        SystemExit: This is such a process: the script trains again while it is imported.
    """
    # multiprocessing sets this while a process imports the main module, and refuses to start processes until then.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"error: {MAIN_GUARD}")


def check_outside_data(folder: Path, data: DataConfig) -> None:
    """Check that the run folder is not among the class folders of the images, where the next run would read it.

    Raises:
        ValueError: The run folder is among the class folders.
    """
    root = Path(data.path)
    inside = root.is_dir() and folder.resolve().is_relative_to(root.resolve())
    if inside and UNSPLIT in open_splits(data.path, source=data):
        raise ValueError(f"{folder} would lie among the class folders in {data.path}; choose another --output")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process; the system releases the lock when the process ends, even if it is killed.

    Raises:
        ValueError: Another process has locked the folder.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder} is in use by another run; wait for it to end or choose another --output") from error
    try:
        yield
    finally:
        lock.release()
