"""Contract 5 across processes: SIGKILL from outside, resumption from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoints.files import read_checkpoint
from tests.contracts.case import Case
from tests.contracts.conftest import ROOT

SLOW = """
import time
import pytorch_lightning as pl

class Slow(pl.Callback):
    def on_train_batch_end(self, *args):
        time.sleep(0.15)
"""


@pytest.mark.processes
@pytest.mark.parametrize("num_processes", [1, 2])
def test_sigkill_and_resume_from_the_command_line(
    case: Case, here: Callable[..., None], in_two: Callable[..., None], tmp_path: Path, num_processes: int
) -> None:
    """What is killed has been started as a user starts it; what it is compared with needs no start of its own."""
    run, two = (here, []) if num_processes == 1 else (in_two, ["--trainer.devices", "2", "--trainer.strategy", "ddp"])
    (tmp_path / "slow_callback.py").write_text(SLOW)
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    arguments = ["fit", "-c", str(config)]
    run(case, *arguments, "--run_dir", str(tmp_path / "whole"))
    folder = tmp_path / "killed"
    last = folder / "checkpoints" / "last.ckpt"
    running = subprocess.Popen(
        [
            sys.executable, "-m", f"apps.{case.application}", *arguments, "--run_dir", str(folder),
            "--trainer.callbacks+=slow_callback.Slow", *two,
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not last.exists():
            assert time.monotonic() < deadline, "no checkpoint was written in two minutes"
            assert running.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
        time.sleep(0.4)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    stopped = read_checkpoint(last)["global_step"]
    run(case, *arguments, "--run_dir", str(folder), "--ckpt_path", "last")
    whole, resumed = read_checkpoint(tmp_path / "whole" / "checkpoints" / "last.ckpt"), read_checkpoint(last)
    assert 0 < stopped < whole["global_step"] == resumed["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name


@pytest.mark.processes
def test_last_with_none_there_is_an_error(case: Case, command: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    done = command(
        case, "fit", "-c", str(config), "--run_dir", str(tmp_path / "run"), "--ckpt_path", "last", check=False
    )
    assert done.returncode == 2
    assert "there is no checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
