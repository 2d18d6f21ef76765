"""Data loading in which every random draw is a function of (seed, epoch, index).

The sampler yields keys (epoch, index), and the generator that augments a sample is seeded with (seed, key). Therefore
the number of worker processes and interruptions do not change any sample.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from volo.data.images import ImageError

#: (epoch, index) of one sample.
Key = tuple[int, int]

#: The type of a sample's content, as it is read.
Content = TypeVar("Content")

#: The number that follows the seed in the entropy of a generator: the order of an epoch, the augmentation of a sample
#: and the draws of a training step each have their own, so that they never share a stream of random numbers.
ORDER, SAMPLE, STEP = range(3)

#: The limit of images that are tried for one place in a training batch before the place stays empty.
TRIES = 100


class Samples(Dataset[Any]):
    """A data set that defines how its samples are grouped and collated into batches."""

    def __len__(self) -> int:
        raise NotImplementedError

    def collate(self, samples: list[Any]) -> Any:
        """Collate samples into one batch."""
        raise NotImplementedError

    def batches(self, indices: Sequence[int], batch_size: int) -> list[list[int]]:
        """Split the indices, in their order, into batches of ``batch_size``; the last may be smaller."""
        return [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]


def first_readable(
    index: int, length: int, read: Callable[[int], Content]
) -> tuple[Content | None, int, tuple[str, ...]]:
    """Read the item at ``index``, or the next readable one if it cannot be read.

    Args:
        index: of the item; indices ≥ ``length`` wrap around.
        length: the number of items.
        read: reads the item at an index, and raises ImageError if it cannot be read.

    Returns:
        The content, or None if :data:`TRIES` items in a row cannot be read; the item's index in [0, length); and the
        error messages of the items that could not be read.
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
    """Return the generator that draws the augmentation of a sample."""
    return np.random.default_rng((seed, SAMPLE, *key))


class EpochSampler(Sampler[Key]):
    """Sampler of this process's share of the keys (epoch, index), in an order drawn from (seed, epoch).

    Args:
        length: number of images. All processes together yield ``length`` keys per epoch, rounded down to a multiple of
            ``world_size * multiple_of``.
        seed: determines the order, together with the epoch.
        rank: of this process, 0 to ``world_size - 1``.
        world_size: number of processes.
        multiple_of: each process yields a multiple of this number of keys per epoch: its images per optimizer step.
        labels: class index of every image, for balanced epochs: every class gets the same number of keys (±1). Of a
            large class, each epoch draws a random subset. Images of a small class repeat within an epoch: indices
            ≥ ``length`` repeat the images with different augmentation (see :class:`TrainImages`). None yields every
            image once.

    Attributes:
        skip: number of keys to leave out at the start of the next pass only, to resume in the middle of an epoch.
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
        """Set the epoch of the next pass."""
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
        """Draw (length,) indices with the same number of indices (±1) for every class."""
        classes = rng.permutation(np.unique(labels))
        share, remainder = divmod(self.length, max(1, len(classes)))
        drawn = [np.empty(0, dtype=np.int64)]
        for place, label in enumerate(classes):
            count, members = share + (place < remainder), np.flatnonzero(labels == label)
            # Every round takes all images of the class in a new order. The multiple of the length that is added
            # distinguishes the rounds, so that each repetition is augmented differently.
            rounds = range(-(-count // len(members)))
            drawn.append(np.concatenate([rng.permutation(members) + i * self.length for i in rounds])[:count])
        return np.concatenate(drawn)


def default_workers() -> int:
    """Return the number of CPU cores minus one, at least 1 and at most 8; 4 on systems that do not report the cores."""
    return min(8, max(1, len(os.sched_getaffinity(0)) - 1)) if hasattr(os, "sched_getaffinity") else 4


def ignore_signals(worker: int) -> None:
    """Make a worker process ignore SIGINT, SIGUSR1 and each SIGTERM that its parent did not send.

    Pillow's warnings of unusual metadata are ignored, too: every worker would print them.

    A terminal or SLURM sends signals to all processes. The main process handles them: it needs a few more images to
    finish its step, and then ends the workers itself. On systems that do not report the sender of a signal, SIGTERM
    ends the worker.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if hasattr(signal, "sigwaitinfo") and parent is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm, args=(parent.pid,), daemon=True).start()


def _exit_on_sigterm(parent: int | None) -> None:
    """Wait for a SIGTERM from the process ``parent``, ignoring all others, and exit."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def train_loader(images: Samples, sampler: EpochSampler, *, batch_size: int, workers: int) -> DataLoader[Any]:
    """Create a loader of full batches in the sampler's order; an incomplete last batch is dropped."""
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=ignore_signals,
        collate_fn=images.collate,
        drop_last=True,
        persistent_workers=workers > 0,
    )


def eval_loader(images: Samples, *, batch_size: int, workers: int, indices: range | None = None) -> DataLoader[Any]:
    """Create a loader of all images, or those of ``indices``, in the batches that ``images.batches`` forms."""
    return DataLoader(
        images,
        batch_sampler=images.batches(range(len(images)) if indices is None else indices, batch_size),
        num_workers=workers,
        worker_init_fn=ignore_signals,
        collate_fn=images.collate,
    )
