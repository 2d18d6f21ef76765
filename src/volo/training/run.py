"""One training run, from its configuration to the model folder."""

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console

from volo.data import default_workers
from volo.data.identity import data_root
from volo.files import TEMPORARY_PREFIX, atomic_write, check_writable_folder, out_of_space, remove_temporaries
from volo.messages import join_few, printable, quoted
from volo.outputs import MARK_FILE, mark_folder
from volo.training.advice import describe_adapted, describe_average, describe_leftover, recommend_weights
from volo.training.assemble import make_ema_callback, make_trainer, prepare_model, silence_libraries
from volo.training.callbacks.checkpoints import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    BestCheckpoint,
    Checkpoints,
    Interrupted,
    read_run_checkpoint,
)
from volo.training.callbacks.finite import FiniteLoss
from volo.training.callbacks.loggers import LogFigures
from volo.training.callbacks.problems import Problems
from volo.training.callbacks.profile import StageProfiler, Trace
from volo.training.callbacks.progress import RunProgress
from volo.training.callbacks.record import Record
from volo.training.checks import (
    LOCK_FILE,
    MAIN_GUARD,
    check_device,
    check_main_module,
    check_outside_data,
    lock_folder,
    warn_about_workers,
)
from volo.training.classification import ClassificationJob
from volo.training.config import MONITORED_METRICS, RUN_CONFIG_FILE, TrainConfig
from volo.training.datamodule import RunData
from volo.training.distributed import requeue_job
from volo.training.job import Evaluated, Job
from volo.training.optim import learning_rate, warmup_length
from volo.training.run_images import RunImages, check_found, check_recorded
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
    check_main_module()
    folder = Path(config.output or f"runs/{Path(config.data.path).resolve().name}-{config.model.name}")
    check_writable_folder(folder)
    if config.task == "classification":
        check_outside_data(folder, config.data)
    if (folder / LAST_CHECKPOINT).exists():
        raise ValueError(
            f"{folder} already holds a run; resume it with --resume {quoted(folder)}, or choose another --output"
        )
    # A run that stopped before its first checkpoint leaves only these: starting again loses nothing. The lock and the
    # temporary files are also those of another process of this run.
    own = (MARK_FILE, LOCK_FILE, RUN_CONFIG_FILE, LAST_CHECKPOINT.parent.name)
    present = [item.name for item in folder.iterdir()] if folder.exists() else []
    if any(name not in own and not name.startswith(TEMPORARY_PREFIX) for name in present):
        started = (folder / RUN_CONFIG_FILE).exists()
        resumable = f", or resume the run in it with --resume {quoted(folder)}" if started else ""
        raise ValueError(f"{folder} exists and is not empty; choose another --output{resumable}")
    config = replace(config, output=str(folder))
    run = Run(config, folder, console or Console(quiet=True), **_profiling_options(folder, profile))
    (folder / LAST_CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    with run.lock():
        if run.trainer.is_global_zero:
            mark_folder(folder, "train")
            _write_config(run.config, folder)
        return run.fit(checkpoint=None)


def _write_config(config: TrainConfig, folder: Path) -> None:
    """Write the configuration into the run folder, with absolute paths: the run may be resumed in another folder."""
    with atomic_write(folder / RUN_CONFIG_FILE) as temporary:
        temporary.write_text(config.absolute().to_json(), encoding="utf-8")


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
            change the result, and ``data.path`` if the same images are there; all others must be equal.
        profile: see :func:`train`.
        console: console for reports; None prints nothing.

    Raises:
        ValueError: The folder is not a run folder, its checkpoint cannot be resumed, another run uses it, its images
            are not found or have changed, or ``settings`` differ from those of the run (the message lists the
            differences).
        RuntimeError: See :func:`train`.
    """
    check_main_module()
    folder = Path(folder)
    if not (folder / RUN_CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is not a run folder: {folder / RUN_CONFIG_FILE} does not exist")
    before = TrainConfig.load(folder / RUN_CONFIG_FILE).located(folder)
    checkpoint = folder / LAST_CHECKPOINT if (folder / LAST_CHECKPOINT).is_file() else None
    config = began = _with_settings(before, folder, settings or {}, movable=checkpoint is not None)
    check_found(config, folder)
    if checkpoint:  # it holds the weights, so the pretrained weights need not be downloaded again
        config = replace(config, model=replace(config.model, pretrained=None))
    run = Run(config, folder, console or Console(quiet=True), **_profiling_options(folder, profile))
    if checkpoint:
        run.check_resumable(checkpoint, moved=began.data.path != before.data.path)
    with run.lock():
        if began.data.path != before.data.path and run.trainer.is_global_zero:
            _write_config(replace(began, data=replace(began.data, workers=before.data.workers)), folder)
        return run.fit(checkpoint)


def _with_settings(config: TrainConfig, folder: Path, settings: Mapping[str, Any], *, movable: bool) -> TrainConfig:
    """Return ``config`` with the number of workers and the place of the data in ``settings``, if they name any.

    Args:
        config: the configuration of the run, with absolute paths.
        folder: the run folder.
        settings: see :func:`resume`.
        movable: whether the data may be in another place.

    Raises:
        ValueError: ``settings`` differ from ``config`` in another setting.
    """
    different = {
        name: pair for name, pair in config.differences(settings).items() if name not in _PATHS or not _same_file(*pair)
    }
    workers = different.pop("data.workers", (None, config.data.workers))[1]
    path = different.pop("data.path", (None, config.data.path))[1] if movable else config.data.path
    if Path(settings.get("output") or folder).resolve() == folder.resolve():
        different.pop("output", None)
    if different:
        listed = ", ".join(f"{name} {new!r} (the run: {old!r})" for name, (old, new) in different.items())
        raise ValueError(
            f"{folder} was started with another configuration: {listed}; leave these settings out to resume it"
        )
    return replace(config, data=replace(config.data, workers=workers, path=path))


#: Settings that may be paths, which people write in several ways.
_PATHS = ("data.path", "data.token_labels", "data.classes", "model.pretrained")


def _same_file(one: Any, other: Any) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, TypeError, ValueError):  # not there, or not a path
        return False


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
        config: the configuration, with values in the place of defaults that depend on the data.
        task: the Lightning module in training.
        data: the Lightning data module, which makes the loaders.
        images: the identity of its images; None for given images.

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
        self.given = self.config = config
        self.folder, self.console = folder, console
        self.job = job = _JOBS[config.task](config, images)
        prepare_model(config, job.model)
        self.record = Record(folder)
        self.problems = Problems(console, strict=config.data.strict)
        # The generated images of a dry run are not worth a list.
        root = data_root(config.data.path, config.data)
        self.images = RunImages.of(job.images, job.val_images, root) if images is None else None
        job.run_images = self.images
        self._unverified = False
        with silence_libraries():
            self.trainer = make_trainer(config, folder, self._callbacks(callbacks), trainer)
            check_device(config, self.trainer)
            train_set, processes = job.train_set(), self.trainer.world_size
            self.config = config = job.config = config.adapt_defaults(images=len(train_set), processes=processes)
            assert config.batch_size is not None
            batches = len(train_set) // (config.batch_size * processes)
            self.workers = min(default_workers(), batches) if config.data.workers is None else config.data.workers
            self.data = RunData(
                train_set,
                job.val_set(),
                batch_size=config.batch_size,
                accumulate=config.accumulate,
                workers=self.workers,
                seed=config.seed,
                world_size=processes,
                balanced_labels=job.balanced_labels(),
                images=self.images,
            )
            per_epoch = self.data.steps_per_epoch
            self.warmup = warmup_length(config.optim, epochs=config.epochs, steps_per_epoch=per_epoch)
            self.task = job.make_task(self.data)

    def check_resumable(self, checkpoint: Path, *, moved: bool) -> None:
        """Check that a checkpoint is whole and of the same images, and that it fits the model.

        Args:
            checkpoint: the checkpoint to resume from.
            moved: whether the images are in another place than before, which only a checkpoint that tells them allows.

        Raises:
            ValueError: It does not, or the checkpoint of the best epoch is damaged.
        """
        assert self.images is not None
        state = read_run_checkpoint(checkpoint)
        if (self.folder / BEST_CHECKPOINT).exists():
            read_run_checkpoint(self.folder / BEST_CHECKPOINT)
        recorded = state.get(RunData.__qualname__)
        if recorded is None and moved:
            raise ValueError(
                f"{checkpoint} is of an earlier version, which kept no list of its images: whether those in "
                f"{self.config.data.path} are the same is unknown; put them where they were, or train again"
            )
        try:
            check_recorded(recorded, self.images, self.folder, self.data.batches_per_epoch, state)
        except ValueError as error:
            path = self.config.data.path
            problem = "does not hold the images of" if moved else "has changed since the beginning of"
            advice = "name another folder" if moved else "restore it, or train again with another --output"
            raise ValueError(f"{path} {problem} {self.folder}: {error}; {advice}") from error
        saved = state["state_dict"]
        for name, value in self.task.state_dict().items():
            if getattr(saved.get(name), "shape", None) != value.shape:
                raise ValueError(
                    f"{checkpoint} does not fit: {name} is missing or of another shape; its classes or its version "
                    "are others; train again with another --output"
                )
        self._unverified = recorded is None

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
            BestCheckpoint(self.folder, MONITORED_METRICS[config.task][0]),
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
            raise RuntimeError(message) from (None if MAIN_GUARD in message else error)
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
        resume = f"resume with: volo train --resume {quoted(self.folder)}"
        if isinstance(error, OSError) and out_of_space(error):
            return f"cannot write to {self.folder}: {error.strerror}; when there is space, {resume}"
        # A worker that ends by itself, or does not take what it is sent, could not import the script.
        ended = isinstance(error, BrokenPipeError) or "with exit code" in f"{error} {error.__cause__}"
        if ended and multiprocessing.get_start_method() != "fork":
            return f"a process that loads images ended at its start; {MAIN_GUARD}"
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
        if self._unverified:
            self.console.print(
                "note: the checkpoint is of an earlier version, which kept no list of its images: whether they are "
                "still the same was not checked",
                highlight=False,
                soft_wrap=True,
            )
        images, global_batch = len(self.data.train), self.data.global_batch
        remarks = [describe_adapted(self.given, self.config, images)]
        if not self.config.data.balanced:
            remarks.append(describe_leftover(images, global_batch))
        if checkpoint is None:
            remarks.append(recommend_weights(self.config, images, max(self.job.preprocessing.size)))
        for remark in filter(None, remarks):
            self.console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
        warn_about_workers(self.config, self.console)
        average = describe_average(self.config, self.config.epochs * self.data.steps_per_epoch)
        for warning in [*self.job.warnings(), *filter(None, [average])]:
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
            f"learning rate {rate:.3g}{base}, {config.epochs} epochs, "
            f"{config.epochs * self.data.steps_per_epoch:,} optimizer steps (warm-up: {self.warmup:,})"
        )

    def _report_problems(self) -> None:
        if not self.problems.seen:
            return
        self.console.print(f"{len(self.problems.seen):,} unreadable images were left out", highlight=False)
        if names := self.job.unreadable_classes():
            listed = join_few(repr(printable(name)) for name in names)
            self.console.print(
                f"warning: the model has learned nothing about {listed}: none of the training images can be read",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _save_best(self) -> None:
        """Save the best epoch's weights, or their moving average if the run keeps one, into the model folder."""
        best = self.folder / BEST_CHECKPOINT
        if not best.exists():
            raise ValueError(
                f"{best} does not exist, and no epoch is left that could replace it; copy {LAST_CHECKPOINT.name} to it "
                "for the weights of the last epoch, and resume"
            )
        state = read_run_checkpoint(best)["state_dict"]
        weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        self.job.save_model(self.folder, weights)
        if self.images is not None:
            self.images.save(self.folder)
