"""Starts that do not get on come to an end; those that do may be any number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.training.command.restarts import FILE, Restarts
from core.training.process.signals import Interrupted


def _trainer(step: int) -> Any:
    return SimpleNamespace(
        is_global_zero=True, global_step=step, strategy=SimpleNamespace(broadcast=lambda value: value)
    )


def _start(folder: Path, step: int, *, ended_by: BaseException | None = None) -> None:
    restarts = Restarts(folder, max_starts=3)
    restarts.on_train_start(_trainer(step), None)  # type: ignore[arg-type]
    if ended_by is not None:
        restarts.on_exception(_trainer(step), None, ended_by)  # type: ignore[arg-type]


def test_a_start_too_many_at_one_step_is_refused(tmp_path: Path) -> None:
    for _ in range(3):
        _start(tmp_path, 5, ended_by=RuntimeError("out of memory"))
    with pytest.raises(ValueError, match=r"3 times at step 5 .*next checkpoint.*starts\.json"):
        _start(tmp_path, 5)
    with pytest.raises(ValueError, match="3 times"):
        _start(tmp_path, 5)
    (tmp_path / FILE).unlink()
    _start(tmp_path, 5)


def test_a_run_that_gets_on_may_start_any_number_of_times(tmp_path: Path) -> None:
    for start in range(20):
        _start(tmp_path, 5 * (start // 3))


def test_a_signal_says_nothing_of_the_run(tmp_path: Path) -> None:
    for _ in range(10):
        _start(tmp_path, 0, ended_by=Interrupted("SIGUSR1"))
