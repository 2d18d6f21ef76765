"""The Lightning data module of a run: loaders of training and validation batches."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from volo.data import EpochSampler, Samples, eval_loader, train_loader
from volo.training.run_images import RunImages


class RunData(pl.LightningDataModule):
    """Training and validation batches; a resumed run continues in the middle of an epoch.

    Args:
        train: augmented training images, which the keys of an ``EpochSampler`` index.
        val: validation images, which integers index.
        batch_size: images in a batch of one process.
        accumulate: batches of each process in one optimizer step.
        workers: number of processes that load images.
        seed: seed of the order of the training images.
        world_size: number of processes that train together.
        balanced_labels: class of every training image, to draw all classes equally often; None draws no
            image twice in an epoch.
        images: the identity of all images, which every checkpoint holds; None stores nothing.

    Attributes:
        global_batch: images in an optimizer step, over all processes.
        steps_per_epoch: optimizer steps in an epoch, all with full batches.
        batches_per_epoch: batches of this process in an epoch.

    Raises:
        ValueError: The training images do not fill one global batch.
    """

    def __init__(
        self,
        train: Samples,
        val: Samples,
        *,
        batch_size: int,
        accumulate: int,
        workers: int,
        seed: int,
        world_size: int,
        balanced_labels: Sequence[int] | None = None,
        images: RunImages | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.train, self.val, self.balanced_labels = train, val, balanced_labels
        self.batch_size, self.accumulate, self.workers, self.seed = batch_size, accumulate, workers, seed
        self.global_batch = batch_size * accumulate * world_size
        self.steps_per_epoch = len(train) // self.global_batch
        self.batches_per_epoch = self.steps_per_epoch * accumulate
        if not self.steps_per_epoch:
            raise ValueError(
                f"{len(train)} training images do not fill one batch of {self.global_batch} ({batch_size} images × "
                f"accumulate {accumulate} × {world_size} processes); lower --batch-size, --accumulate or --devices"
            )

    def state_dict(self) -> dict[str, Any]:
        return {} if self.images is None else self.images.state()

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        sampler = EpochSampler(
            len(self.train),
            seed=self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            multiple_of=self.batch_size * self.accumulate,
            labels=self.balanced_labels,
        )
        # Lightning creates the first iterator before it sets the sampler's epoch, but it has already restored its
        # counters of epochs and batches. Reading both here makes a resumed epoch continue where it stopped.
        loop = self.trainer.fit_loop
        sampler.set_epoch(loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        done = loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        sampler.skip = self.batch_size * (done % self.batches_per_epoch)
        return train_loader(self.train, sampler, batch_size=self.batch_size, workers=self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        own_indices = range(self.trainer.global_rank, len(self.val), self.trainer.world_size)
        return eval_loader(self.val, batch_size=self.batch_size, workers=self.workers, indices=own_indices)
