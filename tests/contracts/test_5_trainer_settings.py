"""Trainer settings and callbacks that people add: each is exact, or refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint, Timer

from core.training.checkpoints.files import KEY, read_checkpoint
from core.training.optimisation import Constant
from tests.contracts.case import Case
from tests.contracts.cases import CASES


def _same_weights(path: Path, other: Path) -> None:
    one, two = read_checkpoint(path)["state_dict"], read_checkpoint(other)["state_dict"]
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_checkpoint_callback_of_the_user_resumes_exactly_too(
    case: Case, train: Callable[..., Any], tmp_path: Path
) -> None:
    """It saves before our hook has counted the step that is done."""
    own = ModelCheckpoint(dirpath=tmp_path / "own", filename="{step}", every_n_train_steps=3, save_top_k=-1)
    whole = train(case.make(tmp_path, dropout=0.3), tmp_path / "whole", callbacks=(own,))
    files = sorted((tmp_path / "own").glob("*.ckpt"))
    assert len(files) > 3
    for file in files:
        folder = tmp_path / f"from_{file.stem}"
        folder.mkdir()
        (folder / "last.ckpt").write_bytes(file.read_bytes())
        resumed = train(
            case.make(tmp_path, dropout=0.3),
            folder,
            resume=True,
            callbacks=(
                ModelCheckpoint(dirpath=folder / "own", every_n_train_steps=3, filename="{step}", save_top_k=-1),
            ),
        )
        _same_weights(whole.last_path, resumed.last_path)


def test_a_run_stopped_by_the_clock_continues(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    whole = train(case.make(tmp_path), tmp_path / "whole")

    class Stop(pl.Callback):
        """A `Timer` whose time is up after four steps."""

        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == 4

    stopped = train(case.make(tmp_path), tmp_path / "stopped", callbacks=(Stop(), Timer("00:01:00:00")))
    assert read_checkpoint(stopped.last_path)["global_step"] == 4
    resumed = train(case.make(tmp_path), tmp_path / "stopped", resume=True, callbacks=(Timer("00:01:00:00"),))
    _same_weights(whole.last_path, resumed.last_path)


def test_more_steps_continue_a_run_that_ended_within_an_epoch(
    case: Case, train: Callable[..., Any], tmp_path: Path
) -> None:
    def constant() -> Any:
        run = case.make(tmp_path, dropout=0.3)
        run.module.schedule = Constant()
        return run

    whole = train(constant(), tmp_path / "whole", max_steps=7)
    train(constant(), tmp_path / "short", max_steps=4)
    longer = train(constant(), tmp_path / "short", max_steps=7, resume=True)
    _same_weights(whole.last_path, longer.last_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"accumulate_grad_batches": 2, "limit_train_batches": 5}, "multiple of 2"),
        ({"accumulate_grad_batches": 2, "limit_train_batches": 0.5}, "multiple of 2"),
        ({"callbacks": (GradientAccumulationScheduler({0: 2}),)}, "accumulate_grad_batches"),
        ({"precision": "bf16-true"}, "bf16-mixed"),
        ({"overfit_batches": 1}, "limit_train_batches"),
        ({"max_epochs": -1}, "needs to know how long training is"),
    ],
)
def test_what_cannot_be_exact_is_refused(
    case: Case, train: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        train(case.make(tmp_path), tmp_path / "run", **settings)


@pytest.mark.parametrize("settings", [{"gradient_clip_val": 0.1}, {"precision": "64-true"}, {"limit_train_batches": 3}])
def test_a_resumed_run_has_the_same_trainer(
    case: Case, train: Callable[..., Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    train(case.make(tmp_path), tmp_path / "run", max_epochs=2)
    with pytest.raises(ValueError, match=f"trainer.{next(iter(settings))}"):
        train(case.make(tmp_path), tmp_path / "run", resume=True, **settings)


def test_the_schedule_ends_where_training_does(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    """Whichever of max_epochs and max_steps comes first."""
    rates = {}
    for name, settings in (("epochs", {}), ("both", {"max_steps": 100_000})):
        run = case.make(tmp_path)
        train(run, tmp_path / name, **settings)
        rates[name] = run.module.optimizers().param_groups[0]["lr"]
    assert rates["both"] == rates["epochs"] < run.module.optimizer.lr


def test_no_checkpoint_holds_what_is_not_finite(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    run = case.make(tmp_path)
    run.module.optimizer = dataclasses.replace(run.module.optimizer, lr=1e30)
    with pytest.raises(ValueError, match="no longer finite"):
        train(run, tmp_path / "run", log_every_n_steps=1000)
    for path in (tmp_path / "run").glob("*.ckpt"):
        assert all(value.isfinite().all() for value in read_checkpoint(path)["state_dict"].values())


def test_evaluation_is_held_to_the_checkpoint(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    """Another network ends in one message, not in torch's list of sizes."""
    path = train(case.make(tmp_path), tmp_path / "run", max_epochs=1).last_path
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    other = case.make(tmp_path, variant=case.variants[-1])
    with pytest.raises(ValueError, match="trained with other settings"):
        trainer.test(other.module, datamodule=other.data, ckpt_path=str(path), verbose=False)
    same = case.make(tmp_path)
    trainer.test(same.module, datamodule=same.data, ckpt_path=str(path), verbose=False)
    assert same.module.evaluation_metrics


def test_seconds_and_position_outlive_an_interruption(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    from core.training.watching.throughput import Throughput

    first = Throughput()
    train(case.make(tmp_path), tmp_path / "run", callbacks=(first,))
    again = Throughput()
    train(case.make(tmp_path), tmp_path / "run", resume=True, callbacks=(again,))
    assert again.fit_seconds == pytest.approx(first.fit_seconds, rel=0.5)
    assert again.fit_seconds > 0
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")[KEY]["position"]["epoch"] == 2


def test_a_limit_of_one_is_one_batch(here: Callable[..., None], tmp_path: Path) -> None:
    """And of 1.0 all of them, on the command line as in a file."""
    case, config = CASES[0], tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    limited = tmp_path / "limited.yaml"
    limited.write_text("trainer: {limit_val_batches: 1, limit_train_batches: 1.0}\n")
    here(case, "fit", "-c", str(config), "-c", str(limited), "--run_dir", str(tmp_path / "all"))
    here(case, "fit", "-c", str(config), "--trainer.limit_train_batches", "1", "--run_dir", str(tmp_path / "one"))
    steps = {name: json.loads((tmp_path / name / "metrics.json").read_text())["steps"] for name in ("all", "one")}
    assert steps["one"] == 2 < steps["all"]  # two epochs
    assert "limit_val_batches: 1\n" in (tmp_path / "all" / "config.yaml").read_text()
