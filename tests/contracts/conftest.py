"""Fixtures of the contracts: every test that asks for `case` runs over each of `CASES`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch.distributed

from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.cli import main
from tests.contracts.case import Case, Run
from tests.contracts.cases import CASES
from tests.contracts.processes import in_processes
from tests.shape_checks import unchecked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen = request.param.process_tests
    in_processes = request.node.get_closest_marker("processes") is not None
    if in_processes and chosen is not None and request.node.originalname not in chosen:
        pytest.skip("what it tests is the same code for all applications")
    return request.param


@pytest.fixture(params=[case for case in CASES if not case.is_further], ids=lambda case: case.name)
def first_case(request: pytest.FixtureRequest) -> Case:
    """Once an application, however many ways of training it has."""
    return request.param


@pytest.fixture(autouse=True)
def _as_shipped() -> Iterator[None]:
    """Without the checks of shape annotations, which take four fifths of a decoder's time; tests/core makes them."""
    with unchecked():
        yield


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are laid out, but empty files: to draw them takes half of a small run, and tests of the plots look at them."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, path, **settings: Path(path).touch())


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., RunCheckpoints]:
    """Fit a run in this process; the checkpoints go to `folder`."""

    def _train(
        run: Run, folder: Path, *, resume: bool = False, callbacks: tuple[pl.Callback, ...] = (), **settings: Any
    ) -> RunCheckpoints:
        checkpoints = RunCheckpoints(folder, config=CheckpointConfig(every_n_steps=1, every_minutes=None))
        trainer = pl.Trainer(
            **{
                "accelerator": "cpu",
                "max_epochs": 2,
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "default_root_dir": str(tmp_path),
                **settings,
            },
            callbacks=[checkpoints, *callbacks],
        )
        trainer.fit(run.module, datamodule=run.data, ckpt_path=str(checkpoints.last_path) if resume else None)
        return checkpoints

    return _train


@pytest.fixture
def here() -> Callable[..., None]:
    """Run `apps.<application>` in this process: as good as `command` for what needs one process, and started already."""

    def _here(case: Case, *args: str) -> None:
        main(case.entry, list(args))

    return _here


@pytest.fixture
def in_two() -> Callable[..., None]:
    """Run `apps.<application>` in two processes that train together: forked, as `here` is what they would start with."""

    def _in_two(case: Case, *args: str) -> None:
        arguments = [*args, "--trainer.devices", "2", "--trainer.strategy", "ddp"]

        def run() -> None:
            main(case.entry, arguments)
            assert not torch.distributed.is_initialized(), "a group that is left to Python's end may abort it"

        assert in_processes(2, run) == [0, 0], "the output of the processes says why"

    return _in_two


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m apps.<application>` as a user would."""

    def _command(case: Case, *args: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", f"apps.{case.application}", *args],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    return _command
