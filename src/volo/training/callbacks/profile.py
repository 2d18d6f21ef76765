"""The profile of a run: seconds of each stage, the slowest operators, and a trace of a few training steps."""

import re
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import Profiler
from torch.profiler import ProfilerActivity, profile, schedule, supported_activities

from volo.files import atomic_write

TABLE_FILE = "profile.txt"
TRACE_FILE = "trace.json"

#: Training steps that PyTorch's profiler skips, uses for its warm-up, and records.
_SKIPPED, _WARMUP, _TRACED = 2, 1, 5
_OTHER = "everything else"
#: Pattern of the names of Lightning's actions → their stage; any other action belongs to the stage around it.
_STAGES = {
    r"train_dataloader_next$": "data waiting",
    r"batch_to_device$": "transfer",
    r"\.training_step$": "forward",
    r"^loss$": "loss",
    r"\.backward$": "backward",
    r"optimizer_step$|optimizer_zero_grad$": "optimizer",
    r"WeightAveraging\.on_train_batch_end$": "EMA",
    r"^validation$|\.validation_step$": "validation",
    r"save_checkpoint$": "checkpoint",
    r"\]Record\.": "metrics and curves",
    r"\]Trace\.": "this profile",
}
#: Stages whose inner actions are not counted separately.
_CLOSED = ("validation", "checkpoint", "metrics and curves")


class StageProfiler(Profiler):
    """Time of each stage of a training run; every moment counts for exactly one stage.

    On an accelerator the profiler waits for the device at the end of each stage, so that the work counts for the stage
    that started it.

    Attributes:
        seconds: stage → its total seconds.
        calls: stage → the number of times it began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = dict.fromkeys((*_STAGES.values(), _OTHER), 0.0)
        self.calls = dict.fromkeys(self.seconds, 0)
        self._open = [("", _OTHER)]
        self._since = time.perf_counter()

    def start(self, action_name: str) -> None:
        inside = self._open[-1][1]
        stage = inside
        if inside not in _CLOSED:
            stage = next((name for pattern, name in _STAGES.items() if re.search(pattern, action_name)), inside)
        self._count()
        self.calls[stage] += stage != inside
        self._open.append((action_name, stage))

    def stop(self, action_name: str) -> None:
        # Close the last action of this name, which may not be the last one open: a hook may open an action that
        # ends after the hook.
        last = max(place for place, (name, _) in enumerate(self._open) if name == action_name)
        self._count()
        del self._open[last]

    def _count(self) -> None:
        """Add the time since the last change of stage to the open stage."""
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        now = time.perf_counter()
        self.seconds[self._open[-1][1]] += now - self._since
        self._since = now

    def table(self) -> str:
        """Return the table as text, a line for each stage: seconds, share, calls, milliseconds per call."""
        total = sum(self.seconds.values())
        lines = [f"{'stage':<20}{'seconds':>10}{'share':>8}{'calls':>8}{'ms a call':>12}"]
        for stage, seconds in self.seconds.items():
            calls = self.calls[stage]
            each = f"{1000 * seconds / calls:12.2f}" if calls else f"{'':12}"
            lines.append(f"{stage:<20}{seconds:>10.2f}{seconds / total:>8.1%}{calls or '':>8}{each}")
        return "\n".join([*lines, f"{'all':<20}{total:>10.2f}"])


class Trace(Callback):
    """Record a few training steps with PyTorch's profiler, and write the table and the trace into ``folder``.

    In a run of several processes, only the first one records.
    """

    def __init__(self, folder: Path, stages: StageProfiler) -> None:
        self.folder, self.stages = folder, stages
        self.operators = "no step was recorded"
        self._profile: profile | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            kinds = [ProfilerActivity.CPU]
            if torch.accelerator.is_available():
                kinds += supported_activities()
            self._profile = profile(
                activities=set(kinds),
                schedule=schedule(wait=_SKIPPED, warmup=_WARMUP, active=_TRACED, repeat=1),
                on_trace_ready=self._keep,
            )
            self._profile.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._profile is not None:
            self._profile.step()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stages.start("validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stages.stop("validation")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._write()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._write()  # Lightning calls no teardown then

    def _write(self) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None
            text = f"{self.stages.table()}\n\noperators, in the steps of {TRACE_FILE}:\n{self.operators}\n"
            with atomic_write(self.folder / TABLE_FILE) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _keep(self, finished: profile) -> None:
        order = "self_cpu_time_total" if not torch.accelerator.is_available() else "self_device_time_total"
        self.operators = finished.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60)
        with atomic_write(self.folder / TRACE_FILE) as temporary:
            finished.export_chrome_trace(str(temporary))
