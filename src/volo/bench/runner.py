"""Taking turns: every competitor has a process of its own, and one of them runs at a time, round after round."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volo.bench.candidates import Candidate, Preparation
from volo.bench.worker import Measurement

#: Fewer rounds than this say nothing of how far they differ.
LEAST_ROUNDS = 3
#: Seconds after a turn in which the runtime's threads, which wait busily for more work, come to rest.
_REST = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long is measured, for every batch size and number of threads.

    Attributes:
        rounds: at most.
        seconds: after which no further round starts; but there are never fewer than :data:`LEAST_ROUNDS`.
        turn: seconds of a turn; a call that takes longer is the whole turn.
    """

    rounds: int = 20
    seconds: float = 60.0
    turn: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One competitor at one batch size and number of threads.

    Attributes:
        contestant: who.
        batch: images a call.
        threads: it computed with.
        rounds: seconds of every call, round by round.
        start: seconds from the start of the process to the result of its first batch.
        peak: bytes, the most memory that the process held.
    """

    contestant: Candidate
    batch: int
    threads: int
    rounds: list[list[float]]
    start: float
    peak: int


class LeftOutError(Exception):
    """A competitor cannot take part; the message says why."""


def run_interleaved(
    contestants: Sequence[Candidate],
    *,
    batches: Sequence[int],
    threads: Sequence[int],
    plan: Plan,
    say: Callable[[str], None],
) -> list[Measured]:
    """Measure all competitors, at each number of threads and batch size by itself.

    Args:
        contestants: who takes part; one that fails is left out, as ``say`` is told.
        batches: images a call.
        threads: to compute with.
        plan: how long.
        say: called with a line now and then.

    Raises:
        RuntimeError: none of them could be measured.
    """
    measured = []
    with tempfile.TemporaryDirectory(prefix="volo-bench-") as folder:
        preparation = Preparation(Path(folder))
        for count in threads:
            for batch in batches:
                say(f"batch {batch}, {_counted(count, 'thread')}: starting {_counted(len(contestants), 'process')}")
                with ExitStack() as stack:
                    workers = _start(contestants, preparation, batch, count, stack, say)
                    measured += _heat(workers, batch, count, plan, say)
    if not measured:
        raise RuntimeError("nothing could be measured; the reasons are above")
    return measured


def _start(
    contestants: Sequence[Candidate],
    preparation: Preparation,
    batch: int,
    threads: int,
    stack: ExitStack,
    say: Callable[[str], None],
) -> dict[Candidate, "Worker"]:
    """A process for each, started one after the other, so that none disturbs the start-up of another."""
    workers = {}
    for contestant in contestants:
        try:
            job = preparation.job(contestant, batch=batch, threads=threads)
            workers[contestant] = stack.enter_context(Worker(job))
        except Exception as error:  # whatever one of them fails of, the others are measured
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            say(f"{contestant.name} is left out: {reason}")
    return workers


def _heat(
    workers: dict[Candidate, "Worker"], batch: int, threads: int, plan: Plan, say: Callable[[str], None]
) -> list[Measured]:
    """Rounds in which each has one turn, in an order drawn anew."""
    rounds: dict[Candidate, list[list[float]]] = {contestant: [] for contestant in workers}
    begin, done, draw = time.perf_counter(), 0, random.Random(0)
    while rounds and (done < LEAST_ROUNDS or (done < plan.rounds and time.perf_counter() - begin < plan.seconds)):
        for contestant in draw.sample(list(rounds), len(rounds)):
            try:
                rounds[contestant].append(workers[contestant].ask(plan.turn))
            except LeftOutError as error:
                say(f"{contestant.name} is left out: {error}")
                del rounds[contestant]
            time.sleep(_REST)
        done += 1
    return [
        Measured(
            contestant=contestant,
            batch=batch,
            threads=threads,
            rounds=calls,
            start=workers[contestant].start,
            peak=workers[contestant].ask("peak"),
        )
        for contestant, calls in rounds.items()
    ]


class Worker:
    """The process of one competitor, ready to take turns; it ends with the context.

    Attributes:
        start: seconds it took to be ready.
    """

    def __init__(self, job: Measurement) -> None:
        self._stack = ExitStack()
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._errors = self._stack.enter_context(errors)
        cache = self._stack.enter_context(tempfile.TemporaryDirectory())  # torch.compile finds nothing of before
        settings = {"OMP_NUM_THREADS": str(job.threads), "TORCHINDUCTOR_CACHE_DIR": cache}
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "volo.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | settings,
        )
        try:
            self.ask(asdict(job))
        except BaseException:
            self.__exit__()
            raise
        self.start = time.perf_counter() - begin

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._stack.close()

    def ask(self, what: object) -> Any:
        """Send a line and wait for the answer.

        Raises:
            LeftOutError: the process has ended instead.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # it has ended, as the empty answer says
            print(json.dumps(what), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            raise LeftOutError(self._last_words())
        return json.loads(answer)

    def _last_words(self) -> str:
        """Why the process ended: the last line that it wrote, of an exception without its module."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines and code > 0 else f"its process ended with exit code {code}"


def _counted(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
