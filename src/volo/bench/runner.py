"""Interleaved benchmark: every candidate has its own process, and in every round each of them is measured once."""

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

#: Fewer rounds than this give no useful interval.
LEAST_ROUNDS = 3
#: Seconds of waiting after each turn. A runtime's threads spin for a moment before they sleep, and would take the
#: processor from the next candidate.
_REST = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Limits of the measuring, for each batch size and number of threads.

    Attributes:
        rounds: the most rounds.
        seconds: no round starts after this time, except the first :data:`LEAST_ROUNDS`.
        turn_seconds: length of one candidate's turn in a round; a turn has at least one whole call.
    """

    rounds: int = 20
    seconds: float = 60.0
    turn_seconds: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of one candidate at one batch size and number of threads.

    Attributes:
        candidate: the candidate.
        batch: images per call.
        threads: number of CPU threads.
        rounds: seconds of every call, in one list for each round.
        start: seconds from the start of the process to the result of its first batch.
        peak: the most memory that the process held, in bytes.
    """

    candidate: Candidate
    batch: int
    threads: int
    rounds: list[list[float]]
    start: float
    peak: int


class CandidateError(Exception):
    """A candidate cannot be measured; the message gives the reason."""


def run_interleaved(
    candidates: Sequence[Candidate],
    *,
    batches: Sequence[int],
    threads: Sequence[int],
    plan: Plan,
    report: Callable[[str], None],
) -> list[Measured]:
    """Measure all candidates in interleaved rounds, separately for each number of threads and batch size.

    Args:
        candidates: the candidates; one that fails is reported and left out.
        batches: batch sizes, in images per call.
        threads: numbers of CPU threads.
        plan: limits of the measuring.
        report: called with lines about the progress and about candidates that are left out.

    Raises:
        RuntimeError: No candidate could be measured.
    """
    measured = []
    with tempfile.TemporaryDirectory(prefix="volo-bench-") as folder:
        preparation = Preparation(Path(folder))
        for count in threads:
            for batch in batches:
                processes = _counted(len(candidates), "process")
                report(f"batch {batch}, {_counted(count, 'thread')}: starting {processes}")
                with ExitStack() as stack:
                    workers = _start(candidates, preparation, batch, count, stack, report)
                    measured += _measure(workers, batch, count, plan, report)
    if not measured:
        raise RuntimeError("nothing could be measured; the reasons are above")
    return measured


def _start(
    candidates: Sequence[Candidate],
    preparation: Preparation,
    batch: int,
    threads: int,
    stack: ExitStack,
    report: Callable[[str], None],
) -> dict[Candidate, "Worker"]:
    """Start the workers one after the other, so that none disturbs the start-up of another."""
    workers = {}
    for candidate in candidates:
        try:
            measurement = preparation.measurement(candidate, batch=batch, threads=threads)
            workers[candidate] = stack.enter_context(Worker(measurement))
        except Exception as error:  # a failure of one candidate must not stop the others
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            report(f"{candidate.name} is left out: {reason}")
    return workers


def _measure(
    workers: dict[Candidate, "Worker"], batch: int, threads: int, plan: Plan, report: Callable[[str], None]
) -> list[Measured]:
    """Run the rounds; each round has one turn for every candidate, in a new random order."""
    rounds: dict[Candidate, list[list[float]]] = {candidate: [] for candidate in workers}
    begin, done, order = time.perf_counter(), 0, random.Random(0)
    while rounds and (done < LEAST_ROUNDS or (done < plan.rounds and time.perf_counter() - begin < plan.seconds)):
        for candidate in order.sample(list(rounds), len(rounds)):
            try:
                rounds[candidate].append(workers[candidate].ask(plan.turn_seconds))
            except CandidateError as error:
                report(f"{candidate.name} is left out: {error}")
                del rounds[candidate]
            time.sleep(_REST)
        done += 1
    return [
        Measured(
            candidate=candidate,
            batch=batch,
            threads=threads,
            rounds=calls,
            start=workers[candidate].start,
            peak=workers[candidate].ask("peak"),
        )
        for candidate, calls in rounds.items()
    ]


class Worker:
    """The process of one candidate, whose first batch has run; leaving the context ends the process.

    Args:
        measurement: the model, its runtime and its batch.

    Attributes:
        start: seconds from the start of the process to the result of its first batch.

    Raises:
        CandidateError: The process ended before it was ready.
    """

    def __init__(self, measurement: Measurement) -> None:
        self._stack = ExitStack()
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._errors = self._stack.enter_context(errors)
        cache = self._stack.enter_context(tempfile.TemporaryDirectory())  # torch.compile must find no earlier results
        settings = {"OMP_NUM_THREADS": str(measurement.threads), "TORCHINDUCTOR_CACHE_DIR": cache}
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
            self.ask(asdict(measurement))
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

    def ask(self, request: object) -> Any:
        """Send a request to the process and return its answer, both as JSON values.

        Raises:
            CandidateError: The process has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # the process has ended; the empty answer below shows it
            print(json.dumps(request), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            raise CandidateError(self._reason())
        return json.loads(answer)

    def _reason(self) -> str:
        """Return the last line that the ended process wrote to standard error, or else its exit code."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines and code > 0 else f"its process ended with exit code {code}"


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"
