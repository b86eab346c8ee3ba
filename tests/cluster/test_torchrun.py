"""torchrun starts the processes: it starts them again when one dies, and hands SIGTERM on when it is itself asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.training.checkpoints.files import read_checkpoint
from tests.cluster.conftest import Experiment
from tests.cluster.slurm import ROOT, wait_for
from tests.cluster.test_slurm import assert_same

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


def test_a_killed_process_then_sigterm_then_the_same_line(experiment: Experiment, whole: Path) -> None:
    """What is left in the end is the run to which none of it happened."""
    log = experiment.folder / "torchrun.log"
    running = _start(experiment, "torchrun", log, SECONDS_A_STEP="0.5", SECONDS_A_STEP_LATER="0.5")
    wait_for(lambda: experiment.steps("torchrun") >= 3, "three steps", told=log.read_text)
    os.kill(int((experiment.folder / "torchrun" / "process1").read_text()), signal.SIGKILL)
    steps = experiment.steps("torchrun")
    # One restart is all that it is allowed, so it must be enough.
    wait_for(lambda: experiment.steps("torchrun") >= steps + 6, "the restart", told=log.read_text)
    running.terminate()
    assert running.wait() != 0
    assert "interrupted by SIGTERM: saved" in log.read_text()
    assert experiment.steps("torchrun") < read_checkpoint(whole)["global_step"]
    assert _start(experiment, "torchrun", log).wait() == 0, log.read_text()[-3000:]
    assert_same(experiment.last("torchrun"), whole)
