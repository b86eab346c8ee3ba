"""A training that waits in a process of its own and is told over a pipe to run some steps, or to translate.

So two programs that cannot share a process are timed in turns. Requests and answers are a line of JSON each. This file
needs the standard library alone: the rival's process imports it too.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]

Answer = dict[str, Any]
Handler = Callable[[Answer], Answer]


class WorkerError(RuntimeError):
    """A process that ended, or said something else than an answer; the message ends in the last lines of its log."""


class Worker:
    """The asking side.

    Args:
        name: how messages call it.
        command: what starts it.
        log: file for everything it prints besides answers.
        num_threads: threads its products may use.
        cpus: the CPUs it runs on; None for any.
    """

    def __init__(
        self, name: str, *, command: Sequence[str], log: Path, num_threads: int, cpus: set[int] | None = None
    ) -> None:
        self.name = name
        self.log = log
        environment = os.environ | {"OMP_NUM_THREADS": str(num_threads), "PYTHONPATH": str(ROOT)}
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        if cpus is not None:
            os.sched_setaffinity(self.process.pid, cpus)

    def ask(self, request: str, **arguments: Any) -> Answer:
        """One request and its answer.

        Raises:
            WorkerError: the process ended before it answered.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(
                f"{self.name} ended with status {self.process.wait()} when asked to {request}. Its log ends:\n"
                + "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            )
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end: it does when nobody can ask it anything more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class StepSize:
    """What an optimiser step reads; sides are source and target, each sentence with its end."""

    sentences: int
    """Pairs of sentences."""
    target_tokens: int
    """Tokens that the decoder is scored on: words' pieces and ends."""
    padded_target_tokens: int
    """The same, padding counted."""
    tokens: int
    """Tokens of both sides."""
    padded_tokens: int
    """The same, padding counted."""


@dataclass(frozen=True)
class Instant:
    """A moment on the clock, and how much of the processor this process has had by then."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Instant":
        """This moment."""
        return cls(time.perf_counter(), time.process_time())

    def until_now(self) -> Answer:
        """Seconds since then, for an answer."""
        return {"seconds": time.perf_counter() - self.wall, "cpu_seconds": time.process_time() - self.cpu}


class Gate:
    """The answering side, inside a training: stands before every step and lets those pass that were asked for.

    A block of steps is timed from the moment it is asked for until the gate is reached again, so that fetching batches,
    the optimiser and whatever else a training does a step are in it.

    Args:
        handlers: what answers other requests than `train`.
        requests: where they come from.
        answers: where answers go.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, requests: IO[str], answers: IO[str]) -> None:
        self._handlers = handlers
        self._requests = requests
        self._answers = answers
        self._left = 0
        self._start: Instant | None = None
        self._sizes: list[StepSize] = []

    def pass_step(self, size: StepSize) -> None:
        """Wait until a step is asked for, and answer what is asked for before.

        Raises:
            SystemExit: nobody can ask any more.
        """
        if self._left == 0:
            self._answer_block(ended=False)
            self._serve()
        self._left -= 1
        self._sizes.append(size)

    def training_ended(self) -> None:
        """Say that there are no more steps, and answer other requests for good.

        Raises:
            SystemExit: nobody can ask any more.
        """
        self._answer_block(ended=True)
        while True:
            self._serve()
            self._answer_block(ended=True)

    def _answer_block(self, *, ended: bool) -> None:
        if self._start is None:
            return
        spent = self._start.until_now()
        totals = {name: sum(getattr(size, name) for size in self._sizes) for name in StepSize.__dataclass_fields__}
        self._say({**spent, "steps": len(self._sizes), **totals, "ended": ended})
        self._start = None
        self._sizes = []

    def _serve(self) -> None:
        """Answer requests up to one for steps."""
        for line in self._requests:
            request = json.loads(line)
            if request["request"] == "train":
                self._left = int(request["steps"])
                self._start = Instant.now()
                return
            self._say(self._handlers[request["request"]](request))
        raise SystemExit(0)

    def _say(self, answer: Answer) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def take_pipes() -> tuple[IO[str], IO[str]]:
    """Requests and answers of this process; from here on, whatever is printed goes to standard error."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, answers
