"""The contracts of training over a run that carries its state from chunk to chunk (notes N6)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoint_io import KEY, read_checkpoint
from tests.contracts.case import Case
from tests.contracts.cases import FORECASTING_STREAM
from tests.contracts.conftest import ROOT
from tests.contracts.streaming import STREAMING
from tests.contracts.test_3_randomness import test_a_run_repeats_itself_with_any_number_of_workers  # noqa: F401
from tests.contracts.test_4_loss import (  # noqa: F401
    test_accumulated_pieces_give_the_gradient_of_the_whole,
    test_the_logged_loss_is_exact_over_unequal_batches,
    test_two_processes_measure_what_one_does,
    test_two_processes_take_the_steps_of_one,
)
from tests.contracts.test_5_resume import (  # noqa: F401
    Kill,
    Killed,
    test_killed_at_any_step,
    test_killed_twice_with_workers,
    test_more_epochs_continue_a_finished_run,
    test_resuming_a_finished_run_changes_nothing,
)
from tests.contracts.test_6_checkpoints import (  # noqa: F401
    test_a_module_comes_back_from_its_checkpoint_alone,
    test_it_holds_plain_data_alone,
    trained,
)

KILL = """
import os
import pytorch_lightning as pl

class KillAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer, *args):
        if trainer.global_step == self.step:
            os._exit(9)
"""


@pytest.fixture
def case() -> Case:
    return STREAMING


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the application of the tests as a user would run one of the product's."""
    (tmp_path / "kill_callback.py").write_text(KILL)

    def _command(case: Case, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.contracts.streaming", *args],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    return _command


@pytest.mark.parametrize(
    ("case", "num_streams"), [(STREAMING, 3), (FORECASTING_STREAM, 21)], ids=lambda value: getattr(value, "name", None)
)
def test_states_travel_in_the_checkpoint(
    case: Case, num_streams: int, train: Callable[..., Any], tmp_path: Path
) -> None:
    """Else the resumed runs would say nothing: at this step streams are under way."""
    with pytest.raises(Killed):
        train(case.make(tmp_path), tmp_path / "run", callbacks=(Kill(4),))
    stored = read_checkpoint(tmp_path / "run" / "last.ckpt")[KEY]["streams"]
    assert len(stored["streams"]) >= num_streams
    assert stored["hidden"].shape == stored["cell"].shape == (2, len(stored["streams"]), 6)
    assert stored["hidden"].abs().sum(dim=(0, 2)).all()


def test_a_run_cut_otherwise_does_not_resume(train: Callable[..., Any], tmp_path: Path) -> None:
    train(FORECASTING_STREAM.make(tmp_path), tmp_path / "run", max_epochs=1)
    with pytest.raises(ValueError, match=r"stream\.chunk_size: 8, now 1000"):
        train(FORECASTING_STREAM.make(tmp_path, variant="whole_lstm"), tmp_path / "run", resume=True)


TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
TWO_PIECES = ("--trainer.accumulate_grad_batches", "2")


@pytest.mark.processes
def test_killed_and_resumed_on_another_number_of_processes(
    case: Case, command: Callable[..., Any], tmp_path: Path
) -> None:
    """States are gathered from the processes that hold them, and found by those that go on with them.

    Bit for bit where the batches are cut in as many pieces as before (two summands have one sum in either order).
    """
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    arguments = ["fit", "-c", str(config), "--trainer.max_epochs", "1"]
    command(case, *arguments, *TWO, "--run_dir", str(tmp_path / "whole"))
    whole = read_checkpoint(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    kill = ("--trainer.callbacks+=kill_callback.KillAt", "--trainer.callbacks.step=10")
    for killed, before in (("by_two", TWO), ("by_one", ())):
        done = command(case, *arguments, *before, *kill, "--run_dir", str(tmp_path / killed), check=False)
        assert done.returncode != 0
        stopped = read_checkpoint(tmp_path / killed / "checkpoints" / "last.ckpt")
        assert stopped["global_step"] == 9
        assert len(stopped[KEY]["streams"]["streams"]) >= 3
    for killed, after, exact in (("by_two", TWO, True), ("by_two", TWO_PIECES, True), ("by_one", TWO, False)):
        folder = tmp_path / f"{killed}_{len(after)}"
        shutil.copytree(tmp_path / killed, folder)
        command(case, *arguments, *after, "--run_dir", str(folder), "--ckpt_path", "last")
        resumed = read_checkpoint(folder / "checkpoints" / "last.ckpt")
        assert whole["global_step"] == resumed["global_step"] > 10
        sums, expected = resumed[KEY]["training_sums"], whole[KEY]["training_sums"]
        torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0, msg=f"{killed} {after}: the logged mean loss")
        for name, value in whole["state_dict"].items():
            torch.testing.assert_close(value, resumed["state_dict"][name], rtol=1e-6, atol=1e-9, msg=name)
            assert not exact or torch.equal(value, resumed["state_dict"][name]), (killed, after, name)
