"""Kills runs with SIGKILL, resumes them, and compares what is left with runs that nobody killed.

    python -m benchmarks.soak --kills 40

Every application x 0 and 2 workers x 1 and 2 processes is a run of two short epochs, started from the command line. Main
process, ranks and workers are killed at once, several times a run: at a random moment of a random step, while it validates,
while it writes a checkpoint, while it starts, while it is tested. What is started again is what a job script would start: from
last.ckpt where there is one, else from the beginning. The run that this ends in must have the weights, optimiser states,
position, logged metrics and test metrics of the uninterrupted one, bit for bit. The same uninterrupted run stands for any
number of workers, which must change nothing.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.harness import RESULTS
from benchmarks.soak_cases import APPLICATIONS, command_of, write_case
from benchmarks.soak_compare import differences_of_runs
from benchmarks.soak_pace import VARIABLE
from scripts import provenance

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (0, 2)
PROCESSES = (1, 2)
MOMENTS = ("step", "write", "step", "validation", "step", "write", "start", "step", "test", "step")
"""When runs are killed, in turns."""
PACE = 0.1
"""Seconds that a run waits after each batch until it has been killed for the last time."""
LONGEST_START = 8.0
"""Seconds within which a run is killed while it starts."""
PATIENCE = 600.0
"""Seconds after which a run that neither moves on nor ends has hung."""
POLL = 0.002
PACKAGES = ("torch", "pytorch-lightning")


@dataclass
class Kill:
    """One SIGKILL."""

    moment: str
    """What the run was to be killed in the middle of."""
    step: int
    """Optimiser steps that it was to have done by then at least."""
    reached: str = ""
    """Where it last said it was: `step 7`; empty while it starts."""
    in_write: bool = False
    """Whether a part of a checkpoint was left behind: the kill came between its first byte and its renaming."""
    resumed_from: str = "the beginning"
    """What went on."""


@dataclass
class CaseResult:
    """A run that was killed, and how it ended."""

    application: str
    processes: int
    workers: int
    kills: list[Kill] = field(default_factory=list)
    identical: bool = False
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0


class EndedError(RuntimeError):
    """A run that ended otherwise than it should; the message ends in the last lines of its log."""


class Running:
    """A training in a session of its own, so that one signal reaches all of its processes.

    Args:
        arguments: arguments of Python.
        folder: where its log and its pace are.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path) -> None:
        self.log = folder / "log.txt"
        self.pace = folder / "pace.txt"
        self.pace.write_text("")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: str(self.pace)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def reached(self) -> tuple[str, int] | None:
        """Where it is: what it does and after how many steps; None while it starts."""
        lines = self.pace.read_text().split("\n")[:-1]  # the last one may be half written
        if not lines:
            return None
        what, step = lines[-1].split()
        return what, int(step)

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait until it has got there; False where it ended before.

        Raises:
            EndedError: it hung, or failed.
        """
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if self.process.poll() is not None:
                if self.process.returncode != 0:
                    raise EndedError(f"ended with status {self.process.returncode}: {self._last_lines()}")
                return False
            if time.monotonic() > deadline:
                raise EndedError(f"hung for {PATIENCE:g} s at {self.reached() or 'its start'}: {self._last_lines()}")
            time.sleep(POLL)
        return True

    def _last_lines(self) -> str:
        return " | ".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-4:])

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        with contextlib.suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Soak:
    """Runs, and what killing them shows.

    Args:
        folder: where data, caches and runs go.
        seed: seed of the steps and moments.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.references: dict[tuple[str, int], Path] = {}

    def config(self, application: str) -> Path:
        """The run's config; its data is written at the first call."""
        path = self.folder / application / "run.yaml"
        return path if path.is_file() else write_case(application, path.parent)

    def reference(self, application: str, *, num_processes: int) -> Path:
        """Folder of the run that nobody kills.

        Raises:
            EndedError: it failed.
        """
        key = application, num_processes
        if key not in self.references:
            run_dir = self.folder / application / f"uninterrupted_{num_processes}" / "run"
            command = self._command(application, run_dir, num_processes, 0)
            run_dir.parent.mkdir()
            running = Running(command, folder=run_dir.parent)
            try:
                running.wait_until(lambda: False)
            finally:
                running.kill()
            self.references[key] = run_dir
        return self.references[key]

    def _command(self, application: str, run_dir: Path, num_processes: int, num_workers: int) -> list[str]:
        # A cache of its own for each run: a kill may come while it is filled.
        cache = ["--data.cache_dir", str(run_dir.parent / "cache")]
        return [
            *command_of(
                application,
                self.config(application),
                run_dir=run_dir,
                num_processes=num_processes,
                num_workers=num_workers,
            ),
            *cache,
        ]

    def run_case(self, application: str, *, num_processes: int, num_workers: int, moments: Sequence[str]) -> CaseResult:
        """Kill a run at the moments, resume it to its end, and compare it."""
        start = time.monotonic()
        result = CaseResult(application, num_processes, num_workers)
        draw = random.Random(f"{self.seed} {application} {num_processes} {num_workers}")
        try:
            reference = self.reference(application, num_processes=num_processes)
            num_steps = json.loads((reference / "metrics.json").read_text())["steps"]
            # The end comes last, whatever was drawn.
            steps = sorted(draw.sample(range(1, num_steps - 1), len(moments)))
            late = sorted(moments, key=lambda moment: moment == "test")
            for moment, step in zip(late, steps, strict=True):
                result.kills.append(Kill(moment, num_steps if moment == "test" else step))
            run_dir = self.folder / application / f"killed_{num_processes}_{num_workers}" / "run"
            command = self._command(application, run_dir, num_processes, num_workers)
            run_dir.parent.mkdir()
            for kill in result.kills:
                self._kill(kill, command, run_dir, draw)
                self._say(result, kill)
            running = Running([*command, *_continued(run_dir)], folder=run_dir.parent)
            try:
                running.wait_until(lambda: False)
            finally:
                running.kill()
            result.differences = differences_of_runs(run_dir, reference)
        except (EndedError, ValueError) as error:
            result.differences = [str(error)]
        result.identical = not result.differences
        result.seconds = round(time.monotonic() - start, 1)
        return result

    @staticmethod
    def _kill(kill: Kill, command: Sequence[str], run_dir: Path, draw: random.Random) -> None:
        pace = ["--trainer.callbacks+=benchmarks.soak_pace.Pace", "--trainer.callbacks.seconds", str(PACE)]
        running = Running([*command, *pace, *_continued(run_dir)], folder=run_dir.parent)

        def there() -> bool:
            at = running.reached()
            return at is not None and at[1] >= kill.step and (at[0] == kill.moment or kill.moment in ("step", "write"))

        def writes() -> bool:
            return any((run_dir / "checkpoints").glob(".*.part"))

        try:
            if kill.moment == "start":
                time.sleep(draw.uniform(0.2, LONGEST_START))
            else:
                if not running.wait_until(there):
                    raise EndedError(f"ended before it could be killed at {kill.moment} {kill.step}")
                if kill.moment == "write":
                    # A run that has no further checkpoint to write is killed where it is.
                    running.wait_until(lambda: writes() or (running.reached() or ("", 0))[0] == "test")
                    time.sleep(draw.uniform(0.0, 0.01))
                else:
                    time.sleep(draw.uniform(0.0, 1.2 * PACE))
        finally:
            at = running.reached()
            running.kill()
        kill.reached = "" if at is None else f"{at[0]} {at[1]}"
        kill.in_write = writes()
        kill.resumed_from = "last.ckpt" if (run_dir / "checkpoints" / "last.ckpt").is_file() else "the beginning"

    @staticmethod
    def _say(result: CaseResult, kill: Kill) -> None:
        print(
            f"{result.application}, {result.processes} process(es), {result.workers} workers: killed at "
            f"{kill.reached or 'its start'}{' while it wrote a checkpoint' if kill.in_write else ''} (meant: {kill.moment} "
            f"{kill.step}), goes on from {kill.resumed_from}",
            flush=True,
        )


def _continued(run_dir: Path) -> list[str]:
    """What a job script adds when it is started again."""
    if (run_dir / "checkpoints" / "last.ckpt").is_file():
        return ["--ckpt_path", "last"]
    return ["--overwrite", "true"]


def dealt_moments(num_kills: int, num_cases: int) -> list[list[str]]:
    """The moments of each case: `num_kills` in all, as evenly as can be, `MOMENTS` in turns."""
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(num_kills)]
    return [moments[case::num_cases] for case in range(num_cases)]


def write(results: Sequence[CaseResult], path: Path, *, command: str) -> None:
    """Write what is known so far; a kill counts as identical where the run that it was part of ended so."""
    content = {
        "kills": sum(len(result.kills) for result in results),
        "identical": sum(len(result.kills) for result in results if result.identical),
        "cases": [asdict(result) for result in results],
        "command": command,
        "duration_s": round(sum(result.seconds for result in results)),
        "machine": provenance.machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Run the soak; the status is 1 where a run did not end as the uninterrupted one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs in all, dealt to the runs")
    parser.add_argument("--only", choices=sorted(APPLICATIONS), help="runs of this application alone")
    parser.add_argument("--seed", type=int, default=0, help="seed of the steps and moments")
    parser.add_argument("--output", type=Path, default=RESULTS / "soak.json", help="what is written after every run")
    given = parser.parse_args()
    if given.kills < 1:
        parser.error(f"--kills must be at least 1, got {given.kills}.")
    # So that the runs, which have sessions of their own, do not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = [given.only] if given.only else list(APPLICATIONS)
    # Applications in the inner loop, so that a few kills are spread over all of them.
    cases = [(name, count, workers) for workers in WORKERS for count in PROCESSES for name in names]
    folder = Path(tempfile.mkdtemp(prefix="unroll_soak_"))
    os.environ["UNROLL_CACHE"] = str(folder / "cache")  # the embedded sets, of which the runs have a cut
    soak = Soak(folder, seed=given.seed)
    results: list[CaseResult] = []
    for (name, count, workers), moments in zip(cases, dealt_moments(given.kills, len(cases)), strict=True):
        if not moments:
            continue
        result = soak.run_case(name, num_processes=count, num_workers=workers, moments=moments)
        results.append(result)
        verdict = "identical" if result.identical else "DIFFERENT: " + "; ".join(result.differences)
        print(f"{name}, {count} process(es), {workers} workers: {verdict} ({result.seconds:.0f} s)", flush=True)
        write(results, given.output, command=f"python -m benchmarks.soak --kills {given.kills}")
    kills = sum(len(result.kills) for result in results)
    identical = sum(len(result.kills) for result in results if result.identical)
    print(f"{identical} of {kills} kills ended in the run that nobody killed.")
    if identical < kills:
        print(f"The runs are kept in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
