"""torchrun starts the processes: it starts them again when one dies, and hands SIGTERM on when it is itself asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import Experiment
from tests.cluster.slurm import ROOT, wait_for
from tests.cluster.test_slurm import PACE, assert_same

pytestmark = pytest.mark.timeout(600)


def _start(experiment: Experiment, run: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1",
                "-m", "apps.forecasting", "fit", *experiment.arguments(run), "--ckpt_path", "auto", "--trainer.devices", "2",
            ],
            cwd=ROOT,
            env={**os.environ, **experiment.environment, "OMP_NUM_THREADS": "1", **environment},
            stdout=file,
            stderr=file,
        )  # fmt: skip


def test_a_worker_that_is_killed_is_started_again(experiment: Experiment, whole: Path) -> None:
    log = experiment.folder / "torchrun_killed.log"
    running = _start(experiment, "torchrun_killed", log, **PACE)
    wait_for(lambda: experiment.steps("torchrun_killed") >= 3, "three steps", told=log.read_text)
    os.kill(int((experiment.folder / "torchrun_killed" / "process1").read_text()), signal.SIGKILL)
    assert running.wait() == 0, log.read_text()[-3000:]
    assert_same(experiment.last("torchrun_killed"), whole)


def test_sigterm_saves_and_the_same_line_continues(experiment: Experiment, whole: Path) -> None:
    log = experiment.folder / "torchrun_asked.log"
    running = _start(experiment, "torchrun_asked", log, **PACE)
    wait_for(lambda: experiment.steps("torchrun_asked") >= 3, "three steps", told=log.read_text)
    running.terminate()
    assert running.wait() != 0
    assert "interrupted by SIGTERM: saved" in log.read_text()
    assert _start(experiment, "torchrun_asked", log).wait() == 0, log.read_text()[-3000:]
    assert_same(experiment.last("torchrun_asked"), whole)
