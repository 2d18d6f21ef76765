"""One training run, from its configuration to the deliverable."""

import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console

from volo.data import default_workers
from volo.files import atomic_write, check_writable_folder, out_of_space, remove_temporaries
from volo.training.assemble import make_ema_callback, make_trainer, prepare, silence_libraries
from volo.training.callbacks.checkpoints import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    Checkpoints,
    Interrupted,
    best_checkpoint,
)
from volo.training.callbacks.finite import FiniteLoss
from volo.training.callbacks.loggers import LogFigures
from volo.training.callbacks.problems import Problems
from volo.training.callbacks.profile import StageProfiler, Trace
from volo.training.callbacks.progress import RunProgress
from volo.training.callbacks.record import Record
from volo.training.checks import check_apart, check_device, locked, warn_of_workers
from volo.training.classification import ClassificationJob
from volo.training.config import MONITORED_METRICS, RUN_CONFIG_FILE, TrainConfig
from volo.training.datamodule import RunData
from volo.training.distributed import requeue
from volo.training.job import Evaluated, Job
from volo.training.optim import learning_rate
from volo.training.segmentation import SegmentationJob

#: Task → what is done for it.
_JOBS: Mapping[str, type[Job]] = {"classification": ClassificationJob, "segmentation": SegmentationJob}


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run made.

    Attributes:
        folder: everything is in here.
        evaluation: of the best epoch's weights on the validation images; None on all processes but the first.
        stopped_by: the signal that stopped the run, which can go on with :func:`resume`; None where it ended.
        requeued: the stopped run is in SLURM's queue again.
        first_process: whether this process is the one that reports, of several that train together.
    """

    folder: Path
    evaluation: Evaluated | None
    stopped_by: signal.Signals | None = None
    requeued: bool = False
    first_process: bool = True


def train(config: TrainConfig, *, profile: bool = False, console: Console | None = None) -> TrainResult:
    """Train a model.

    The run folder holds the configuration (``train.json``), ``metrics.csv``, ``curves.png``, the scores and pictures
    of the best epoch (:func:`volo.evaluation.report.write_evaluation` and ``summary.png``, or
    :func:`volo.evaluation.segmentation_report.write_segmentation`), ``checkpoints/best.ckpt`` and ``last.ckpt`` for
    resuming, and the deliverable that everything else reads: ``model.safetensors`` and ``config.json``.

    Args:
        config: everything that decides the run.
        profile: write where the time goes into the run folder, ``profile.txt`` and ``trace.json``.
        console: where to report; None reports nothing.

    Raises:
        ValueError: the configuration, the data or the run folder cannot be used; the message says why.
        OSError: the run folder cannot be written.
    """
    folder = Path(config.output or f"runs/{Path(config.data.path).resolve().name}-{config.model.name}")
    check_writable_folder(folder)
    if config.task == "classification":
        check_apart(folder, config.data)
    if (folder / LAST_CHECKPOINT).exists():
        raise ValueError(
            f"{folder} holds a run already; go on with it by --resume {folder}, or choose another --output"
        )
    # A run that ended before its first checkpoint leaves its configuration alone: nothing is lost by starting anew.
    # Hidden files are the lock, and what another process of this run is just writing.
    own = (RUN_CONFIG_FILE, LAST_CHECKPOINT.parent.name)
    if folder.exists() and any(item.name not in own and item.name[0] != "." for item in folder.iterdir()):
        begun = f", or go on with the run in it by --resume {folder}" if (folder / RUN_CONFIG_FILE).exists() else ""
        raise ValueError(f"{folder} exists and is not empty; choose another --output{begun}")
    config = replace(config, output=str(folder))
    run = Run(config, folder, console or Console(quiet=True), **_profiling(folder, profile))
    (folder / LAST_CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    with run.lock():
        if run.trainer.is_global_zero:
            with atomic_write(folder / RUN_CONFIG_FILE) as temporary:
                temporary.write_text(config.to_json(), encoding="utf-8")
        return run.fit(checkpoint=None)


def resume(
    folder: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    profile: bool = False,
    console: Console | None = None,
) -> TrainResult:
    """Go on with a run that was stopped, from its last checkpoint or its beginning, as if it had not been.

    Args:
        folder: of the run.
        settings: nested settings to compare with the run's. ``data.workers`` may be another, since it changes no
            result; all others must be the same.
        profile: see :func:`train`.
        console: where to report; None reports nothing.

    Raises:
        ValueError: the folder holds no run, or none that can go on, is in use by another run, or ``settings`` differ
            (the message lists how).
    """
    folder = Path(folder)
    if not (folder / RUN_CONFIG_FILE).is_file():
        raise ValueError(f"{folder} holds no run: {folder / RUN_CONFIG_FILE} does not exist")
    config = replace(TrainConfig.load(folder / RUN_CONFIG_FILE), output=str(folder))
    config = _with_workers(config, folder, settings or {})
    checkpoint = folder / LAST_CHECKPOINT if (folder / LAST_CHECKPOINT).is_file() else None
    if checkpoint:  # the weights are in it: there is no need to fetch those that the run began with
        config = replace(config, model=replace(config.model, pretrained=None))
    run = Run(config, folder, console or Console(quiet=True), **_profiling(folder, profile))
    with run.lock():
        return run.fit(checkpoint)


def _with_workers(config: TrainConfig, folder: Path, settings: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run in ``folder``, with another number of workers where ``settings`` ask for it."""
    different = config.differences(settings)
    workers = different.pop("data.workers", (None, config.data.workers))[1]
    if Path(settings.get("output") or folder).resolve() == folder.resolve():
        different.pop("output", None)
    if different:
        listed = ", ".join(f"{name} {new!r} (the run: {old!r})" for name, (old, new) in different.items())
        raise ValueError(f"{folder} was begun with another configuration: {listed}; leave these out to go on with it")
    return replace(config, data=replace(config.data, workers=workers))


def _profiling(folder: Path, wanted: bool) -> dict[str, Any]:
    """What a run must be given to write where its time goes."""
    if not wanted:
        return {}
    stages = StageProfiler()
    return {"profiler": stages, "callbacks": [Trace(folder, stages)]}


class Run:
    """The parts of a run, put together and checked before anything is written.

    Args:
        config: everything that decides the run.
        folder: where it writes.
        console: where it reports.
        images: training and validation images; None opens those that ``config`` names.
        callbacks: more of Lightning's, beside those of every run.
        **trainer: more arguments of Lightning's ``Trainer``.

    Attributes:
        job: what is trained, and how it is judged.
        task: the module that learns.
        data: its loaders.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        console: Console,
        *,
        images: tuple[Any, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        **trainer: Any,
    ) -> None:
        self.config, self.folder, self.console = config, folder, console
        self.job = job = _JOBS[config.task](config, images)
        prepare(config, job.model)
        self.workers = default_workers() if config.data.workers is None else config.data.workers
        self.record = Record(folder)
        self.problems = Problems(console, strict=config.data.strict)
        with silence_libraries():
            self.trainer = make_trainer(config, folder, self._callbacks(callbacks), trainer)
            check_device(config, self.trainer)
            self.data = RunData(
                job.train_set(),
                job.val_set(),
                batch_size=config.batch_size,
                accumulate=config.accumulate,
                workers=self.workers,
                seed=config.seed,
                world_size=self.trainer.world_size,
                balanced_labels=job.balanced_labels(),
            )
            self.task = job.make_task(self.data)

    def lock(self) -> AbstractContextManager[None]:
        """Keep the folder for this run; its first process does so for all of them."""
        return locked(self.folder) if self.trainer.is_global_zero else nullcontext()

    def _callbacks(self, more: Sequence[Callback]) -> list[Callback]:
        config = self.config
        return [
            self.problems,
            self.record,
            RunProgress(self.console, self.record),
            LogFigures(self.record),
            FiniteLoss(self.folder, self.job.images.name),
            *make_ema_callback(config.optim),
            *more,
            best_checkpoint(self.folder, MONITORED_METRICS[config.task][0]),
            Checkpoints(self.folder, steps=config.checkpoint_steps, minutes=config.checkpoint_minutes),
        ]

    def fit(self, checkpoint: Path | None) -> TrainResult:
        """Train and judge, from ``checkpoint`` on.

        Raises:
            RuntimeError: what can befall a run; the message says what to do.
        """
        if self.trainer.is_global_zero:
            for folder in (self.folder, self.folder / LAST_CHECKPOINT.parent):
                remove_temporaries(folder)
            self._announce(checkpoint)
        try:
            with silence_libraries():
                self.trainer.fit(self.task, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
            evaluation = self._finish()
        except Interrupted as interruption:
            return self._leave(interruption.signal)
        except SIGTERMException:  # it came before the first step, when there was nothing to save
            return self._leave(signal.SIGTERM)
        except SystemExit:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from None
        except Exception as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                # Lightning shuts its ears to Ctrl-C, and then cannot take down what has hardly begun.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise error.__context__ from None
            if self.trainer.strategy.launcher is not None:
                self.trainer.strategy.launcher.kill(signal.SIGKILL)  # the processes it started wait for this one
            advice = self._advice(error)
            if advice is None:
                raise
            raise RuntimeError(advice) from error
        return TrainResult(folder=self.folder, evaluation=evaluation, first_process=self.trainer.is_global_zero)

    def _finish(self) -> Evaluated | None:
        """What is made of a run that has ended; the first process makes it."""
        if not self.trainer.is_global_zero:
            return None
        self._report_problems()
        self._save_best()
        with silence_libraries():
            return self.job.evaluate(self.folder, self.record.rows, workers=self.workers)

    def _leave(self, number: signal.Signals) -> TrainResult:
        """Deliver the best epoch so far; the processes leave together, or what started them would kill the rest."""
        requeued = False
        if self.trainer.is_global_zero:
            self._report_problems()
            if (self.folder / BEST_CHECKPOINT).exists():
                self._save_best()
            requeued = requeue(number)
        self.trainer.strategy.barrier()
        return TrainResult(
            folder=self.folder,
            evaluation=None,
            stopped_by=number,
            requeued=requeued,
            first_process=self.trainer.is_global_zero,
        )

    def _advice(self, error: Exception) -> str | None:
        """What to do about an error that the computer caused, or None."""
        go_on = f"go on with: volo train --resume {self.folder}"
        if isinstance(error, OSError) and out_of_space(error):
            return f"cannot write to {self.folder}: {error.strerror}; when there is space, {go_on}"
        if "DataLoader worker" in str(error):
            return (
                f"a process that loads images died ({str(error).splitlines()[0].rstrip('. ')}); most often memory has "
                f"run out: {go_on} --data.workers N, fewer than {self.workers}, which changes no result"
            )
        return None

    def _announce(self, checkpoint: Path | None) -> None:
        where = f"{'going on in' if checkpoint else 'writing to'} {self.folder}"
        self.console.print(f"{self.description()}; {where}", highlight=False, soft_wrap=True)
        warn_of_workers(self.config, self.console)
        for warning in self.job.warnings():
            self.console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)

    def description(self) -> str:
        """What is trained on what, with which global batch and at which rate, in one line."""
        config, counts, trainer = self.config, (len(self.data.train), len(self.data.val)), self.trainer
        parameters = sum(parameter.numel() for parameter in self.task.model.parameters())
        rate = learning_rate(config.optim, self.data.global_batch)
        base = "" if config.optim.lr_batch is None else f" ({config.optim.lr:.3g} for {config.optim.lr_batch})"
        return (
            f"{self.job.name}, {parameters / 1e6:.2f} M parameters, {self.job.pixels} pixels; "
            f"{counts[0]:,} training and {counts[1]:,} validation images of {len(self.job.class_names)} classes; "
            f"batch {self.data.global_batch} ({config.batch_size} images × accumulate {config.accumulate} × "
            f"devices {trainer.world_size // trainer.num_nodes} × nodes {trainer.num_nodes}), "
            f"learning rate {rate:.3g}{base}, {config.epochs} epochs"
        )

    def _report_problems(self) -> None:
        if self.problems.seen:
            self.console.print(f"{len(self.problems.seen)} unreadable images were left out", highlight=False)

    def _save_best(self) -> None:
        """Write the best epoch's weights (the average, where one is kept) as the deliverable."""
        state = torch.load(self.folder / BEST_CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
        weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        self.job.save_model(self.folder, weights)
