"""The cluster, started once for all tests of this folder; `make test-cluster` runs them, `make test` does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.training.checkpoints.files import read_checkpoint
from tests.cluster.left_overs import own_folder
from tests.cluster.slurm import ROOT, Cluster, is_installed, running_cluster
from tests.contracts.applications.forecasting import forecasting_config

collect_ignore_glob = [] if "UNROLL_CLUSTER" in os.environ else ["test_*.py"]

# A run that takes its time, so that what is to happen to it finds it running, and says which processes it has. Started
# again it hurries, unless it is told not to.
SLOW = """
import os
import time
from pathlib import Path

import pytorch_lightning as pl

IS_FIRST = os.environ.get("SLURM_RESTART_COUNT", os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) == "0"


def seconds(name):
    return float(os.environ.get(name, "0"))


class Slow(pl.Callback):
    def on_train_start(self, trainer, module):
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"process{trainer.global_rank}").write_text(str(os.getpid()))

    def on_train_batch_end(self, *args):
        time.sleep(seconds("SECONDS_A_STEP" if IS_FIRST else "SECONDS_A_STEP_LATER"))

    def on_exception(self, *args):
        if IS_FIRST:
            time.sleep(seconds("SECONDS_TO_END"))
"""


class Experiment:
    """A run of two processes, as the tests need it.

    Attributes:
        folder: of its config, and of the runs.
        config: the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "run.yaml"
        (folder / "slow_callback.py").write_text(SLOW)
        text = forecasting_config(folder).replace("max_epochs: 2", "max_epochs: 8")
        text += "  strategy: ddp\n  callbacks:\n    - class_path: slow_callback.Slow\n"
        self.config.write_text(text)
        self.environment = {"PYTHONPATH": str(folder), "UNROLL_PYTHON": sys.executable}

    def arguments(self, run: str) -> list[str]:
        """What follows the application's name."""
        return ["-c", str(self.config), "-c", str(ROOT / "configs/cluster/slurm.yaml"), "--run_dir", str(self.folder / run),
                "--checkpoint.every_n_steps", "3"]  # fmt: skip

    def last(self, run: str) -> Path:
        """The checkpoint that a run continues from."""
        return self.folder / run / "checkpoints" / "last.ckpt"

    def steps(self, run: str) -> int:
        """Steps that its last checkpoint has seen; 0 where there is none."""
        return int(read_checkpoint(self.last(run))["global_step"]) if self.last(run).is_file() else 0


@pytest.fixture(scope="session")
def experiment() -> Iterator[Experiment]:
    """In a folder of its own."""
    with own_folder("unroll-cluster-") as folder:
        yield Experiment(folder)


@pytest.fixture(scope="session")
def whole(experiment: Experiment) -> Path:
    """The last checkpoint of the same run without an interruption and without a scheduler."""
    command = [
        sys.executable,
        "-m",
        "apps.forecasting",
        "fit",
        *experiment.arguments("whole"),
        "--trainer.devices",
        "2",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **experiment.environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return experiment.last("whole")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes."""
    assert is_installed(), "Slurm is not installed, or this is not root: run `make test-cluster`."
    with own_folder("unroll-slurm-") as folder, running_cluster(folder) as running:
        yield running
