"""Batches whose every draw is a function of (seed, epoch, sample index).

The sampler hands out keys, (epoch, index), and a sample seeds its own generator with them: neither the
number of worker processes nor an interruption can change what a sample becomes.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from volo.data.images import ImageError

Key = tuple[int, int]

#: What is read of one index.
Content = TypeVar("Content")

#: First numbers after the seed, so that different kinds of draws never share a stream.
ORDER, SAMPLE, STEP = range(3)

#: Images that are tried, one after the other, before a place in a training batch stays empty.
TRIES = 100


class Samples(Dataset[Any]):
    """Samples that know how they become batches."""

    def __len__(self) -> int:
        raise NotImplementedError

    def collate(self, samples: list[Any]) -> Any:
        """One batch of samples."""
        raise NotImplementedError

    def batches(self, indices: Sequence[int], batch_size: int) -> list[list[int]]:
        """The indices in order, ``batch_size`` at a time."""
        return [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]


def first_readable(
    index: int, length: int, read: Callable[[int], Content]
) -> tuple[Content | None, int, tuple[str, ...]]:
    """Read what is at ``index``, or, where that cannot be read, the next of ``length`` that can.

    Returns:
        What was read, None where none of :data:`TRIES` can be; its index; and what was wrong on the way.
    """
    problems: list[str] = []
    for offset in range(min(length, TRIES)):
        chosen = (index + offset) % length
        try:
            return read(chosen), chosen, tuple(problems)
        except ImageError as error:
            problems.append(str(error))
    return None, index % length, tuple(problems)


def sample_generator(seed: int, key: Key) -> np.random.Generator:
    """What draws the augmentation of a sample."""
    return np.random.default_rng((seed, SAMPLE, *key))


class EpochSampler(Sampler[Key]):
    """Keys (epoch, index) in an order drawn from (seed, epoch), this process's share of them.

    Args:
        length: the number of images, and of keys in an epoch of all processes together, but for what is left over.
        seed: decides the order with the epoch.
        rank: of this process.
        world_size: how many processes there are.
        multiple_of: a process has a multiple of so many keys in an epoch, its images of an optimizer step.
        labels: the class of every image, to give every class the same number of keys (within one): images of large
            classes take turns from epoch to epoch by chance, those of small ones come several times in an epoch, as
            indices from ``length`` on (see :class:`TrainImages`). None takes every image once.

    Attributes:
        skip: keys to leave out at the start of the next pass only, for going on in the middle of an epoch.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        multiple_of: int = 1,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.length, self.seed, self.rank, self.world_size, self.multiple_of = (
            length,
            seed,
            rank,
            world_size,
            multiple_of,
        )
        self.labels = None if labels is None else np.asarray(labels)
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // (self.world_size * self.multiple_of) * self.multiple_of

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng((self.seed, ORDER, self.epoch))
        order = rng.permutation(self.length if self.labels is None else self._balanced(self.labels, rng))
        mine = order[self.rank : len(self) * self.world_size : self.world_size]
        start, self.skip = self.skip, 0
        return iter([(self.epoch, int(index)) for index in mine[start:]])

    def _balanced(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(length,) indices, of every class as many as of any other, within one."""
        classes = rng.permutation(np.unique(labels))
        share, more = divmod(self.length, max(1, len(classes)))
        drawn = [np.empty(0, dtype=np.int64)]
        for place, label in enumerate(classes):
            wanted, members = share + (place < more), np.flatnonzero(labels == label)
            # Turn by turn through all images of the class; a turn is told by the multiple of the length.
            turns = range(-(-wanted // len(members)))
            drawn.append(np.concatenate([rng.permutation(members) + turn * self.length for turn in turns])[:wanted])
        return np.concatenate(drawn)


def default_workers() -> int:
    """One loading process for each core but one, 8 at most."""
    return min(8, max(1, len(os.sched_getaffinity(0)) - 1)) if hasattr(os, "sched_getaffinity") else 4


def leave_signals(worker: int) -> None:
    """In a process that loads images: what a terminal or SLURM signals to all is for the one that it loads them for.

    That one needs a few more images to end well, and then ends this process itself.
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if hasattr(signal, "sigwaitinfo") and parent is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(parent.pid,), daemon=True).start()


def _end_when_told(parent: int | None) -> None:
    """Wait for a SIGTERM from the process ``parent``, and leave those of others."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def train_loader(images: Samples, sampler: EpochSampler, *, batch_size: int, workers: int) -> DataLoader[Any]:
    """Full batches of ``batch_size`` in the sampler's order; what is left of an epoch is dropped."""
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=leave_signals,
        collate_fn=images.collate,
        drop_last=True,
        persistent_workers=workers > 0,
    )


def eval_loader(images: Samples, *, batch_size: int, workers: int, indices: range | None = None) -> DataLoader[Any]:
    """All images in the order of their ``batches``, or those of ``indices``."""
    return DataLoader(
        images,
        batch_sampler=images.batches(range(len(images)) if indices is None else indices, batch_size),
        num_workers=workers,
        worker_init_fn=leave_signals,
        collate_fn=images.collate,
    )
