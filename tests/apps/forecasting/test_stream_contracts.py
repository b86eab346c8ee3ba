"""The contracts of training, held by forecasting over whole series, the state carried from chunk to chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.training.checkpoint_io import KEY, read_checkpoint
from tests.contracts.cases import FORECASTING_STREAM, Case
from tests.contracts.conftest import command, train  # noqa: F401
from tests.contracts.test_3_randomness import test_a_run_repeats_itself_with_any_number_of_workers  # noqa: F401
from tests.contracts.test_4_loss import (  # noqa: F401
    test_accumulated_pieces_give_the_gradient_of_the_whole,
    test_the_logged_loss_is_exact_over_unequal_batches,
    test_two_processes_take_the_steps_of_one,
)
from tests.contracts.test_5_resume import (  # noqa: F401
    Kill,
    Killed,
    test_changed_settings_are_refused_by_name,
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


@pytest.fixture
def case() -> Case:
    return FORECASTING_STREAM


def test_states_travel_in_the_checkpoint(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    """Else the resumed runs above would say nothing: at this step series are under way."""
    with pytest.raises(Killed):
        train(case.make(tmp_path), tmp_path / "run", callbacks=(Kill(4),))
    stored = read_checkpoint(tmp_path / "run" / "last.ckpt")[KEY]["streams"]
    assert len(stored["streams"]) > 20
    assert stored["hidden"].shape == stored["cell"].shape == (2, len(stored["streams"]), 6)
    assert stored["hidden"].abs().sum(dim=(0, 2)).all()


def test_a_run_cut_otherwise_does_not_resume(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    train(case.make(tmp_path), tmp_path / "run", max_epochs=1)
    with pytest.raises(ValueError, match=r"stream\.chunk_size: 8, now 1000"):
        train(case.make(tmp_path, variant="whole_lstm"), tmp_path / "run", resume=True)
