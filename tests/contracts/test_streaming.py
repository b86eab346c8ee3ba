"""The contracts of training over a run that carries its state from chunk to chunk (notes N6)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.files import KEY, read_checkpoint
from tests.contracts.case import Case
from tests.contracts.cases import FORECASTING_STREAM
from tests.contracts.processes import in_processes
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


class Kill9(Kill):
    """Ends the process for good: no `finally`, no other hook, and the others wait for it in vain."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os._exit(9)


@pytest.fixture
def case() -> Case:
    return STREAMING


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


@pytest.mark.processes
def test_killed_and_resumed_on_another_number_of_processes(
    case: Case, train: Callable[..., Any], tmp_path: Path
) -> None:
    """States are gathered from the processes that hold them, and found by those that go on with them.

    Bit for bit where the batches are cut in as many pieces as before (two summands have one sum in either order).
    """

    def fit(
        name: str, *, processes: int, resume: bool = False, kill: bool = False, **settings: Any
    ) -> list[int | None]:
        if processes > 1:
            settings |= {"devices": processes, "strategy": "ddp", "use_distributed_sampler": False}
        callbacks = (Kill9(10),) if kill else ()
        settings |= {"max_epochs": 1, "precision": "64-true", "gradient_clip_val": 0.5}
        return in_processes(
            processes,
            lambda: train(case.make(tmp_path), tmp_path / name, resume=resume, callbacks=callbacks, **settings),
        )

    assert fit("whole", processes=2) == [0, 0]
    whole = read_checkpoint(tmp_path / "whole" / "last.ckpt")
    for killed, processes in (("by_two", 2), ("by_one", 1)):
        assert fit(killed, processes=processes, kill=True) == [9] * processes
        stopped = read_checkpoint(tmp_path / killed / "last.ckpt")
        assert stopped["global_step"] == 10
        assert len(stopped[KEY]["streams"]["streams"]) >= 3
    for number, (killed, processes, pieces, exact) in enumerate(
        (("by_two", 2, 1, True), ("by_two", 1, 2, True), ("by_one", 2, 1, False))
    ):
        name = f"{killed}_{number}"
        shutil.copytree(tmp_path / killed, tmp_path / name)
        assert fit(name, processes=processes, resume=True, accumulate_grad_batches=pieces) == [0] * processes
        resumed = read_checkpoint(tmp_path / name / "last.ckpt")
        assert whole["global_step"] == resumed["global_step"] > 11
        sums, expected = resumed[KEY]["training_sums"], whole[KEY]["training_sums"]
        torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0, msg=f"{name}: the logged mean loss")
        for weight, value in whole["state_dict"].items():
            torch.testing.assert_close(value, resumed["state_dict"][weight], rtol=1e-6, atol=1e-9, msg=weight)
            assert not exact or torch.equal(value, resumed["state_dict"][weight]), (name, weight)
