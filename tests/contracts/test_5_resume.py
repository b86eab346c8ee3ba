"""Contract 5: a run that was interrupted ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.files import KEY, read_checkpoint
from tests.contracts.case import Case


class Killed(Exception):
    """Stands for a SIGKILL: nothing of ours catches it."""


class Kill(pl.Callback):
    """Ends the process, as it were, in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


class Losses(pl.Callback):
    """What a user sees of a run, by epoch."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, str], float] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take(trainer, trainer.current_epoch - 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take(trainer, trainer.current_epoch - 1)

    def _take(self, trainer: pl.Trainer, epoch: int) -> None:
        for name, value in trainer.callback_metrics.items():
            if name in ("train/loss", "val/loss"):
                self.seen[epoch, name] = float(value)


def _assert_same(path: Path, other: Path) -> None:
    one, two = read_checkpoint(path), read_checkpoint(other)
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    for ours, theirs in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        assert ours["state"].keys() == theirs["state"].keys()
        for key, state in ours["state"].items():
            for name, value in state.items():
                assert torch.equal(value, theirs["state"][key][name]), name
    assert one["lr_schedulers"] == two["lr_schedulers"]
    for part in ("position", "preprocessing", "settings", "data"):
        assert str(one[KEY][part]) == str(two[KEY][part]), part
    assert one["loops"]["fit_loop"]["epoch_progress"] == two["loops"]["fit_loop"]["epoch_progress"]


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 2, "val_check_interval": 4}], ids=["plain", "rich"]
)
def test_killed_at_any_step(case: Case, train: Callable[..., Any], tmp_path: Path, settings: dict[str, Any]) -> None:
    losses = Losses()
    whole = train(case.make(tmp_path, dropout=0.3), tmp_path / "whole", callbacks=(losses,), **settings)
    num_steps = read_checkpoint(whole.last_path)["global_step"]
    assert num_steps > 8
    for step in (1, num_steps // 2 - 1, num_steps // 2, num_steps - 1):
        folder = tmp_path / f"killed{step}"
        with pytest.raises(Killed):
            train(case.make(tmp_path, dropout=0.3), folder, callbacks=(Kill(step),), **settings)
        torch.manual_seed(step)
        resumed_losses = Losses()
        resumed = train(case.make(tmp_path, dropout=0.3), folder, resume=True, callbacks=(resumed_losses,), **settings)
        _assert_same(whole.last_path, resumed.last_path)
        _assert_same(whole.best_path, resumed.best_path)
        for key, value in resumed_losses.seen.items():
            assert value == losses.seen[key], (step, key)
        assert (1, "train/loss") in resumed_losses.seen


def test_killed_twice_with_workers(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    whole = train(case.make(tmp_path, dropout=0.3), tmp_path / "whole")
    folder = tmp_path / "killed"
    for attempt, step in enumerate((2, 7)):
        with pytest.raises(Killed):
            train(case.make(tmp_path, dropout=0.3, num_workers=2), folder, resume=attempt > 0, callbacks=(Kill(step),))
    resumed = train(case.make(tmp_path, dropout=0.3, num_workers=1), folder, resume=True)
    _assert_same(whole.last_path, resumed.last_path)


def test_resuming_a_finished_run_changes_nothing(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    run = case.make(tmp_path)
    done = train(run, tmp_path / "run")
    before = done.last_path.read_bytes()
    again = case.make(tmp_path)
    train(again, tmp_path / "run", resume=True)
    assert done.last_path.read_bytes() == before
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in run.module.state_dict().items())


def test_more_epochs_continue_a_finished_run(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    """With a schedule that does not depend on the length of the run, longer is the same as longer from the start."""
    from core.training.optimisation import Constant

    def constant() -> Any:
        run = case.make(tmp_path, dropout=0.3)
        run.module.schedule = Constant()
        return run

    whole = train(constant(), tmp_path / "whole", max_epochs=3)
    train(constant(), tmp_path / "short", max_epochs=1)
    longer = train(constant(), tmp_path / "short", max_epochs=3, resume=True)
    _assert_same(whole.last_path, longer.last_path)


def test_early_stopping_is_resumed_too(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    def stopping() -> pl.callbacks.EarlyStopping:
        return pl.callbacks.EarlyStopping("val/loss", patience=1, min_delta=1e9)

    whole = train(case.make(tmp_path), tmp_path / "whole", callbacks=(stopping(),), max_epochs=5)
    assert read_checkpoint(whole.last_path)[KEY]["position"]["epoch"] == 2
    with pytest.raises(Killed):
        train(case.make(tmp_path), tmp_path / "killed", callbacks=(stopping(), Kill(9)), max_epochs=5)
    resumed = train(case.make(tmp_path), tmp_path / "killed", resume=True, callbacks=(stopping(),), max_epochs=5)
    _assert_same(whole.last_path, resumed.last_path)
    train(case.make(tmp_path), tmp_path / "killed", resume=True, callbacks=(stopping(),), max_epochs=5)
    _assert_same(whole.last_path, resumed.last_path)  # it had stopped, and still has


def test_changed_settings_are_refused_by_name(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    run = case.make(tmp_path)
    train(run, tmp_path / "run", max_epochs=1)
    changed = case.make(tmp_path, batch_size=11)
    changed.module.optimizer = dataclasses.replace(changed.module.optimizer, lr=0.5)
    with pytest.raises(ValueError, match=rf"lr: {run.module.optimizer.lr}, now 0\.5") as raised:
        train(changed, tmp_path / "run", resume=True)
    assert f"batch_size: {run.data.batch_size}, now 11" in str(raised.value)
    assert "--init_from" in str(raised.value)


def test_another_thread_count_is_said_aloud(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    train(case.make(tmp_path), tmp_path / "run")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=f"threads: {threads}, now {threads + 1}"):
            train(case.make(tmp_path), tmp_path / "run", resume=True)
    finally:
        torch.set_num_threads(threads)
