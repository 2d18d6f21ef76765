"""One training run, from its configuration to the deliverable."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from rich.console import Console

from volo.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalImages,
    Preprocessing,
    TrainImages,
    TrainTransform,
    class_counts,
    class_weights,
    default_workers,
    imbalance_warning,
    open_data,
    open_token_labels,
    with_channels,
)
from volo.files import replacing
from volo.inference import Predictor
from volo.inference.evaluate import Evaluation, evaluate
from volo.inference.report import write_evaluation
from volo.models import VOLO, VOLOConfig, create_model, save_model
from volo.tasks.classification import ClassificationTask
from volo.training.callbacks import LAST_CHECKPOINT, Interrupted, Problems, Record, RunProgress, StopOnInterrupt
from volo.training.config import CONFIG_FILE, TrainConfig
from volo.training.data import RunData
from volo.training.optim import configure_optimizers, learning_rate
from volo.training.summary import draw_summary

BEST_CHECKPOINT = Path("checkpoints/best.ckpt")

#: Channels → mean and standard deviation, values in 0–1: of ImageNet's photos, also turned grey; a fourth channel is
#: opacity, which is brought to -1–1.
_STATISTICS: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    1: ((0.449,), (0.226,)),
    3: (IMAGENET_MEAN, IMAGENET_STD),
    4: ((*IMAGENET_MEAN, 0.5), (*IMAGENET_STD, 0.5)),
}


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run made.

    Attributes:
        folder: everything is in here.
        evaluation: of the best epoch's weights on the validation images; None on all processes but the first.
        interrupted: the run was stopped and can go on with :func:`resume`.
    """

    folder: Path
    evaluation: Evaluation | None
    interrupted: bool = False


def train(config: TrainConfig, *, console: Console | None = None) -> TrainResult:
    """Train a model.

    The run folder holds the configuration (``train.json``), ``metrics.csv``, the pictures ``curves.png`` and
    ``summary.png``, the files of :func:`volo.inference.report.write_evaluation`, ``checkpoints/best.ckpt`` and
    ``last.ckpt`` for resuming, and the deliverable that everything else reads: ``model.safetensors`` and
    ``config.json``.

    Args:
        config: everything that decides the run.
        console: where to report; None reports nothing.

    Raises:
        ValueError: the configuration or the data cannot be used; the message says why.
        OSError: the run folder cannot be written.
    """
    folder = Path(config.output or f"runs/{Path(config.data.path).name}-{config.model.name}")
    if (folder / LAST_CHECKPOINT).exists():
        raise ValueError(
            f"{folder} holds a run already; go on with it by --resume {folder}, or choose another --output"
        )
    # A run that ended before its first checkpoint leaves its configuration alone: nothing is lost by starting anew.
    if folder.exists() and any(
        item.name not in (CONFIG_FILE, LAST_CHECKPOINT.parent.name) for item in folder.iterdir()
    ):
        raise ValueError(f"{folder} exists and is not empty; choose another --output")
    config = replace(config, output=str(folder))
    run = _Run(config, folder, console or Console(quiet=True))
    (folder / LAST_CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CONFIG_FILE) as temporary:
        temporary.write_text(config.to_json(), encoding="utf-8")
    return run.go(checkpoint=None)


def resume(folder: str | Path, *, console: Console | None = None) -> TrainResult:
    """Go on with a run that was stopped, from its last checkpoint, as if it had not been.

    Raises:
        ValueError: the folder holds no run, or none that can go on.
    """
    folder = Path(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder} holds no run: {folder / CONFIG_FILE} does not exist")
    if not (folder / LAST_CHECKPOINT).is_file():
        raise ValueError(f"{folder} has no checkpoint yet; remove the folder and start the run anew")
    config = replace(TrainConfig.load(folder / CONFIG_FILE), output=str(folder))
    return _Run(config, folder, console or Console(quiet=True)).go(checkpoint=folder / LAST_CHECKPOINT)


class _Run:
    """The parts of a run, put together and checked before anything is written."""

    def __init__(self, config: TrainConfig, folder: Path, console: Console) -> None:
        self.config, self.folder, self.console = config, folder, console
        train_images, self.val_images = open_data(
            config.data.path, val_fraction=config.data.val_fraction, seed=config.seed, source=config.data
        )
        self.class_names = train_images.class_names
        if len(self.class_names) < 2:
            raise ValueError(f"{config.data.path} has one class only, {self.class_names[0]!r}; a classifier needs two")
        channels = config.data.channels or train_images.channels
        train_images, self.val_images = (
            with_channels(images, channels, config.data.background) for images in (train_images, self.val_images)
        )
        self.counts = class_counts(train_images.labels, len(self.class_names))
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = create_model(
                config.model.name,
                num_classes=len(self.class_names),
                in_chans=channels,
                **config.model.overrides(),
            )
        model.set_grad_checkpointing(config.model.grad_checkpointing)
        self.architecture: VOLOConfig = model.config
        self.preprocessing = _preprocessing(model.config, config.data.background)
        self.workers = default_workers() if config.data.workers is None else config.data.workers
        self.record = Record(folder)
        self.problems = Problems(console, strict=config.data.strict)
        with _quiet():
            self.trainer = self._trainer()
            self.data = RunData(
                TrainImages(
                    train_images,
                    TrainTransform(config.augment, self.preprocessing),
                    config.seed,
                    open_token_labels(config.data.token_labels, train_images, config.data.path)
                    if config.data.token_labels
                    else None,
                ),
                EvalImages(self.val_images, self.preprocessing.pixels),
                batch_size=config.batch_size,
                workers=self.workers,
                seed=config.seed,
                world_size=self.trainer.world_size,
                balanced=config.data.balanced,
            )
            self.task = self._task(model)

    @property
    def global_batch(self) -> int:
        return self.config.batch_size * self.config.accumulate * self.trainer.world_size

    def _trainer(self) -> pl.Trainer:
        config = self.config
        callbacks: list[Callback] = [self.problems, self.record, RunProgress(self.console, self.record)]
        if config.optim.ema_decay:
            callbacks.append(EMAWeightAveraging(decay=config.optim.ema_decay))
        callbacks += [
            StopOnInterrupt(self.folder),
            self._checkpoint(BEST_CHECKPOINT, monitor="val_top1", mode="max"),
            self._checkpoint(LAST_CHECKPOINT),
        ]
        try:
            return pl.Trainer(
                max_epochs=config.epochs,
                accelerator=config.accelerator,
                devices=config.devices,
                strategy=config.strategy,
                precision=config.precision,  # type: ignore[arg-type]  # checked by Lightning
                accumulate_grad_batches=config.accumulate,
                callbacks=callbacks,
                logger=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
            )
        except MisconfigurationException as error:
            raise ValueError(str(error)) from error

    def _checkpoint(self, path: Path, **options: Any) -> ModelCheckpoint:
        """Keep the best or the last epoch in one file of ``path``'s name."""
        return ModelCheckpoint(
            dirpath=self.folder / path.parent,
            filename=path.stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            **options,
        )

    def _task(self, model: VOLO) -> ClassificationTask:
        config = self.config

        def configure(model: VOLO) -> dict[str, Any]:
            return configure_optimizers(
                model,
                config.optim,
                epochs=config.epochs,
                steps_per_epoch=math.ceil(self.data.steps_per_epoch / config.accumulate),
                global_batch=self.global_batch,
            )

        if config.compile:
            # Block by block: it leaves the names of the weights alone, and equal blocks share what was compiled.
            for group in (model.network[0], *model.network[2:]):
                for block in group.children():
                    block.compile()
        weights = class_weights(self.counts, config.loss.class_balance, config.loss.balance_beta)
        # Convolutions on the CPU and on tensor cores run faster on channels-last weights and maps.
        return ClassificationTask(
            model.to(memory_format=torch.channels_last),
            preprocessing=self.preprocessing,
            loss=config.loss,
            erasing=config.augment.erasing,
            seed=config.seed,
            configure=configure,
            class_weights=None if weights is None else torch.from_numpy(weights),
        )

    def go(self, checkpoint: Path | None) -> TrainResult:
        if self.trainer.is_global_zero:
            self._announce(checkpoint)
        interrupted = False
        try:
            with _quiet():
                self.trainer.fit(self.task, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
        except Interrupted:
            interrupted = True
        except SystemExit:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from None
        if not self.trainer.is_global_zero:
            return TrainResult(folder=self.folder, evaluation=None, interrupted=interrupted)
        self._report_problems()
        if interrupted and not (self.folder / BEST_CHECKPOINT).exists():
            return TrainResult(folder=self.folder, evaluation=None, interrupted=True)
        self._deliver()
        evaluation = None if interrupted else self._judge()
        return TrainResult(folder=self.folder, evaluation=evaluation, interrupted=interrupted)

    def _announce(self, checkpoint: Path | None) -> None:
        config, counts = self.config, (len(self.data.train), len(self.data.val))
        parameters = sum(parameter.numel() for parameter in self.task.model.parameters())
        rate = learning_rate(config.optim, self.global_batch)
        self.console.print(
            f"{config.model.name}, {parameters / 1e6:.2f} M parameters, {self.architecture.img_size[0]} pixels; "
            f"{counts[0]:,} training and {counts[1]:,} validation images of {len(self.class_names)} classes; "
            f"batch {self.global_batch}, learning rate {rate:.3g}, {config.epochs} epochs; "
            f"{'going on in' if checkpoint else 'writing to'} {self.folder}",
            highlight=False,
            soft_wrap=True,
        )

        warning = imbalance_warning(self.counts, self.class_names)
        if warning and not config.data.balanced and config.loss.class_balance == "none":
            self.console.print(
                f"warning: {warning}; --data.balanced true draws all classes equally often, --loss.class_balance "
                "effective weighs them",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _report_problems(self) -> None:
        if self.problems.seen:
            self.console.print(f"{len(self.problems.seen)} unreadable images were left out", highlight=False)

    def _deliver(self) -> None:
        """Write the best epoch's weights (the average, where one is kept) as the deliverable."""
        state = torch.load(self.folder / BEST_CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
        weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        save_model(
            self.folder,
            self.architecture,
            weights,
            class_names=self.class_names,
            preprocessing=asdict(self.preprocessing),
        )

    def _judge(self) -> Evaluation:
        evaluation = evaluate(
            Predictor(self.folder), self.val_images, batch_size=self.config.batch_size, workers=self.workers
        )
        draw_summary(self.record.rows, evaluation, self.val_images, self.folder / "summary.png")
        seconds = sum(row["seconds"] for row in self.record.rows)
        more = {"epochs": len(self.record.rows), "seconds": round(seconds, 1)}
        write_evaluation(evaluation, self.val_images, self.folder, more=more)
        return evaluation


def _preprocessing(architecture: VOLOConfig, background: str) -> Preprocessing:
    """ImageNet's mean and deviation; the paper's centre crop for photos, the whole image where there are few pixels."""
    mean, std = _STATISTICS[architecture.in_chans]
    return Preprocessing(
        size=architecture.img_size,
        crop_pct=0.96 if min(architecture.img_size) >= 128 else 1.0,
        mean=mean,
        std=std,
        background=background,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's hints to developers from the terminal of a person who trains."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            # RunData finds its place in the middle of an epoch without Lightning's protocol for that.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of PyTorch
            yield
    finally:
        logger.setLevel(level)
