"""One training run, from its configuration to the model folder."""

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
from volo.training.assemble import make_ema_callback, make_trainer, prepare_model, silence_libraries
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
from volo.training.checks import check_device, check_outside_data, lock_folder, warn_about_workers
from volo.training.classification import ClassificationJob
from volo.training.config import MONITORED_METRICS, RUN_CONFIG_FILE, TrainConfig
from volo.training.datamodule import RunData
from volo.training.distributed import requeue_job
from volo.training.job import Evaluated, Job
from volo.training.optim import learning_rate
from volo.training.segmentation import SegmentationJob

#: Task → the class that opens its data, builds its model, saves and evaluates it.
_JOBS: Mapping[str, type[Job]] = {"classification": ClassificationJob, "segmentation": SegmentationJob}


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        folder: the run folder.
        evaluation: scores of the best epoch's weights on the validation images; None for a stopped run, and in every
            process but the first.
        stopped_by: the signal that stopped the run, which :func:`resume` can continue; None for a finished run.
        requeued: whether the stopped run is in SLURM's queue again.
        first_process: whether this is the first of the processes that train together, the only one that reports.
    """

    folder: Path
    evaluation: Evaluated | None
    stopped_by: signal.Signals | None = None
    requeued: bool = False
    first_process: bool = True


def train(config: TrainConfig, *, profile: bool = False, console: Console | None = None) -> TrainResult:
    """Train a model and write the run folder.

    The run folder is also a model folder: ``model.safetensors`` and ``config.json`` hold the best epoch's weights and
    their description. Beside these lie the configuration (``train.json``), ``metrics.csv``, ``curves.png``, the scores
    and pictures of the best epoch (see :mod:`volo.evaluation.report`; for a classifier also ``summary.png``), and
    ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``, from which a run is resumed.

    Args:
        config: the whole configuration of the run.
        profile: whether to write a profile of the run, ``profile.txt`` and ``trace.json``, into the run folder.
        console: console for reports; None prints nothing.

    Raises:
        ValueError: The configuration, the data or the run folder cannot be used; the message gives the reason.
        OSError: The run folder cannot be written.
        RuntimeError: The training failed: the loss or a weight became NaN or infinite, a loading process died, or the
            disk is full. The message gives advice.
    """
    folder = Path(config.output or f"runs/{Path(config.data.path).resolve().name}-{config.model.name}")
    check_writable_folder(folder)
    if config.task == "classification":
        check_outside_data(folder, config.data)
    if (folder / LAST_CHECKPOINT).exists():
        raise ValueError(f"{folder} already holds a run; resume it with --resume {folder}, or choose another --output")
    # A run that stopped before its first checkpoint leaves only its configuration: starting again loses nothing.
    # Hidden files are the lock file and temporary files of another process of this run.
    own = (RUN_CONFIG_FILE, LAST_CHECKPOINT.parent.name)
    if folder.exists() and any(item.name not in own and item.name[0] != "." for item in folder.iterdir()):
        resumable = f", or resume the run in it with --resume {folder}" if (folder / RUN_CONFIG_FILE).exists() else ""
        raise ValueError(f"{folder} exists and is not empty; choose another --output{resumable}")
    config = replace(config, output=str(folder))
    run = Run(config, folder, console or Console(quiet=True), **_profiling_options(folder, profile))
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
    """Resume a stopped run from its last checkpoint, or from its beginning if it has none.

    The result is the same as that of a run that was never stopped.

    Args:
        folder: the run folder.
        settings: nested settings to compare with those of the run. ``data.workers`` may differ, since it does not
            change the result; all others must be equal.
        profile: see :func:`train`.
        console: console for reports; None prints nothing.

    Raises:
        ValueError: The folder is not a run folder, its checkpoint cannot be resumed, another run uses it, or
            ``settings`` differ from those of the run (the message lists the differences).
        RuntimeError: See :func:`train`.
    """
    folder = Path(folder)
    if not (folder / RUN_CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is not a run folder: {folder / RUN_CONFIG_FILE} does not exist")
    config = replace(TrainConfig.load(folder / RUN_CONFIG_FILE), output=str(folder))
    config = _with_workers(config, folder, settings or {})
    checkpoint = folder / LAST_CHECKPOINT if (folder / LAST_CHECKPOINT).is_file() else None
    if checkpoint:  # it holds the weights, so the pretrained weights need not be downloaded again
        config = replace(config, model=replace(config.model, pretrained=None))
    run = Run(config, folder, console or Console(quiet=True), **_profiling_options(folder, profile))
    with run.lock():
        return run.fit(checkpoint)


def _with_workers(config: TrainConfig, folder: Path, settings: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with the number of workers in ``settings``, if they name one.

    Raises:
        ValueError: ``settings`` differ from ``config`` in another setting.
    """
    different = config.differences(settings)
    workers = different.pop("data.workers", (None, config.data.workers))[1]
    if Path(settings.get("output") or folder).resolve() == folder.resolve():
        different.pop("output", None)
    if different:
        listed = ", ".join(f"{name} {new!r} (the run: {old!r})" for name, (old, new) in different.items())
        raise ValueError(
            f"{folder} was started with another configuration: {listed}; leave these settings out to resume it"
        )
    return replace(config, data=replace(config.data, workers=workers))


def _profiling_options(folder: Path, profile: bool) -> dict[str, Any]:
    """Return the arguments of :class:`Run` that make it write a profile into ``folder``; none unless ``profile``."""
    if not profile:
        return {}
    stages = StageProfiler()
    return {"profiler": stages, "callbacks": [Trace(folder, stages)]}


class Run:
    """A training run: its data, model, callbacks and trainer.

    The constructor builds and checks all parts before anything is written.

    Args:
        config: the whole configuration of the run.
        folder: the run folder.
        console: console for reports.
        images: training and validation images; None opens those that ``config`` names.
        callbacks: further Lightning callbacks, besides those of every run.
        **trainer: further arguments of Lightning's ``Trainer``.

    Attributes:
        job: images and model of the run; it also saves and evaluates the model.
        task: the Lightning module in training.
        data: the Lightning data module, which makes the loaders.

    Raises:
        ValueError: The configuration, the data or the device cannot be used; the message gives the reason.
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
        prepare_model(config, job.model)
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
        """Return a context that locks the run folder; in every process but the first, it does nothing."""
        return lock_folder(self.folder) if self.trainer.is_global_zero else nullcontext()

    def _callbacks(self, additional: Sequence[Callback]) -> list[Callback]:
        config = self.config
        return [
            self.problems,
            self.record,
            RunProgress(self.console, self.record),
            LogFigures(self.record),
            FiniteLoss(self.folder, self.job.images.name),
            *make_ema_callback(config.optim),
            *additional,
            best_checkpoint(self.folder, MONITORED_METRICS[config.task][0]),
            Checkpoints(self.folder, steps=config.checkpoint_steps, minutes=config.checkpoint_minutes),
        ]

    def fit(self, checkpoint: Path | None) -> TrainResult:
        """Train from ``checkpoint``, or from scratch if it is None; then save and evaluate the best epoch.

        Raises:
            ValueError: An image cannot be read and ``config.data.strict`` is set, no training image can be read, or
                ``checkpoint`` cannot be resumed.
            RuntimeError: See :func:`train`.
        """
        if self.trainer.is_global_zero:
            for folder in (self.folder, self.folder / LAST_CHECKPOINT.parent):
                remove_temporaries(folder)
            self._print_start(checkpoint)
        try:
            with silence_libraries():
                self.trainer.fit(self.task, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
            evaluation = self._save_and_evaluate()
        except Interrupted as interruption:
            return self._finish_stopped(interruption.signal)
        except SIGTERMException:  # the signal came before the first step, when there was nothing to save
            return self._finish_stopped(signal.SIGTERM)
        except SystemExit:  # Lightning raises it at a second Ctrl-C
            raise KeyboardInterrupt from None
        except Exception as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                # At Ctrl-C Lightning starts to ignore SIGINT; its teardown then fails if the run has hardly started.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise error.__context__ from None
            if self.trainer.strategy.launcher is not None:
                self.trainer.strategy.launcher.kill(signal.SIGKILL)  # its processes would wait for this one
            message = self._environment_error(error)
            if message is None:
                raise
            raise RuntimeError(message) from error
        return TrainResult(folder=self.folder, evaluation=evaluation, first_process=self.trainer.is_global_zero)

    def _save_and_evaluate(self) -> Evaluated | None:
        """Save and evaluate the best epoch; return None in every process but the first."""
        if not self.trainer.is_global_zero:
            return None
        self._report_problems()
        self._save_best()
        with silence_libraries():
            return self.job.evaluate(self.folder, self.record.rows, workers=self.workers)

    def _finish_stopped(self, number: signal.Signals) -> TrainResult:
        """Save the best epoch so far, if there is one, and queue the job again if SLURM stopped it.

        All processes return together: when one process of several ends, their launcher kills the others.
        """
        requeued = False
        if self.trainer.is_global_zero:
            self._report_problems()
            if (self.folder / BEST_CHECKPOINT).exists():
                self._save_best()
            requeued = requeue_job(number)
        self.trainer.strategy.barrier()
        return TrainResult(
            folder=self.folder,
            evaluation=None,
            stopped_by=number,
            requeued=requeued,
            first_process=self.trainer.is_global_zero,
        )

    def _environment_error(self, error: Exception) -> str | None:
        """Return a message with advice if the disk or the memory of the machine caused the error, else None."""
        resume = f"resume with: volo train --resume {self.folder}"
        if isinstance(error, OSError) and out_of_space(error):
            return f"cannot write to {self.folder}: {error.strerror}; when there is space, {resume}"
        if "DataLoader worker" in str(error):
            return (
                f"a process that loads images died ({str(error).splitlines()[0].rstrip('. ')}), most often because "
                f"memory has run out; use fewer workers than {self.workers}, which changes no result, and "
                f"{resume} --workers N"
            )
        return None

    def _print_start(self, checkpoint: Path | None) -> None:
        place = f"{'resuming in' if checkpoint else 'writing to'} {self.folder}"
        self.console.print(f"{self.description()}; {place}", highlight=False, soft_wrap=True)
        warn_about_workers(self.config, self.console)
        for warning in self.job.warnings():
            self.console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)

    def description(self) -> str:
        """Return one line about the run: model, data, global batch, learning rate and epochs."""
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
        """Save the best epoch's weights, or their moving average if the run keeps one, into the model folder."""
        state = torch.load(self.folder / BEST_CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
        weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        self.job.save_model(self.folder, weights)
