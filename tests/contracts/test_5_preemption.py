"""Contract 5 for a run that is asked to end: it saves between two batches, and goes on as if it had not been asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch

from core.training.averaging import AVERAGE, ExponentialAverage
from core.training.checkpoints.files import KEY, read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.preemption import Preemption
from core.training.process import signals
from core.training.process.signals import Interrupted
from tests.contracts.case import Case, Run
from tests.contracts.processes import in_processes
from tests.contracts.test_5_resume import Losses, _assert_same


class Signal(pl.Callback):
    """Sends this process SIGUSR1: twice, in a training step or in a piece of a validation."""

    def __init__(self, *, step: int | None = None, validation: tuple[int, int] | None = None) -> None:
        self.step = step
        self.validation = validation
        self.validations = -1

    def _send(self) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            self._send()

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.validations += not trainer.sanity_checking

    def on_validation_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if not trainer.sanity_checking and (self.validations, batch_idx) == self.validation:
            self._send()


class Validations(pl.Callback):
    """Which steps were validated, and with what loss, as the loggers are told."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seen[trainer.global_step] = float(trainer.callback_metrics["val/loss"])


def _fit(run: Run, folder: Path, *callbacks: pl.Callback, resume: bool = False, **settings: Any) -> RunCheckpoints:
    checkpoints = RunCheckpoints(folder, config=CheckpointConfig(every_n_steps=None, every_minutes=None))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[*callbacks, Preemption(checkpoints), checkpoints],
        **settings,
    )
    trainer.fit(run.module, datamodule=run.data, ckpt_path=str(checkpoints.last_path) if resume else None)
    return checkpoints


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 2, "val_check_interval": 4}], ids=["plain", "rich"]
)
@pytest.mark.usefixtures("catching")
def test_asked_to_end_anywhere(
    case: Case, tmp_path: Path, settings: dict[str, Any], forget: Callable[[], None]
) -> None:
    losses, validations = Losses(), Validations()
    average = ExponentialAverage(0.5)
    whole = _fit(case.make(tmp_path, dropout=0.3), tmp_path / "whole", losses, validations, average, **settings)
    an_epoch = read_checkpoint(whole.last_path)["global_step"] // 2
    asked = (
        [Signal(step=an_epoch - 1), Signal(validation=(len(validations.seen) - 1, 0))]
        if settings
        else [Signal(step=an_epoch - 2), Signal(validation=(0, 0))]
    )
    for number, by in enumerate(asked):
        folder = tmp_path / f"asked{number}"
        first = Validations()
        with pytest.raises(Interrupted) as reason:
            _fit(case.make(tmp_path, dropout=0.3), folder, by, first, ExponentialAverage(0.5), **settings)
        assert reason.value.signal_name == "SIGUSR1"
        assert reason.value.saved == str(folder / "last.ckpt")
        position = read_checkpoint(folder / "last.ckpt")[KEY]["position"]
        if by.step is not None and by.step != an_epoch - 1:
            assert position["total_batches"] == by.step + 1, "one batch was lost or done too many"
        forget()
        resumed_losses, rest = Losses(), Validations()
        resumed = _fit(
            case.make(tmp_path, dropout=0.3), folder, resumed_losses, rest, ExponentialAverage(0.5), resume=True, **settings
        )  # fmt: skip
        _assert_same(whole.last_path, resumed.last_path)
        _assert_same(whole.best_path, resumed.best_path)
        averages = [read_checkpoint(path)[AVERAGE] for path in (whole.last_path, resumed.last_path)]
        for name, value in averages[0].items():
            assert torch.equal(value, averages[1][name]), name
        assert not first.seen.keys() & rest.seen.keys()
        assert first.seen | rest.seen == validations.seen
        for key, value in resumed_losses.seen.items():
            assert value == losses.seen[key], key


@pytest.mark.parametrize("by", [{"step": 3}, {"validation": (0, 0)}], ids=["training", "validation"])
def test_one_of_two_processes_is_asked(case: Case, tmp_path: Path, by: dict[str, Any]) -> None:
    """Both save at the same place; what is left of an epoch may be its validation alone."""
    if case.name not in ("forecasting", "captioning"):
        pytest.skip("the agreement is the same code for all applications")
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}

    def whole() -> None:
        _fit(case.make(tmp_path, dropout=0.3), tmp_path / "whole", **two)

    def asked() -> None:
        signals.catch_signals()
        callbacks = [Signal(**by)] if os.environ["LOCAL_RANK"] == "1" else []
        with mock.patch("torch.distributed.broadcast") as broadcast, pytest.raises(Interrupted):
            _fit(case.make(tmp_path, dropout=0.3), tmp_path / "asked", *callbacks, **two)
        assert not broadcast.called, "the processes agree in what they exchange anyway, not before every batch"

    def resumed() -> None:
        _fit(case.make(tmp_path, dropout=0.3), tmp_path / "asked", resume=True, **two)

    case.make(tmp_path)  # the data are written once, before two processes do it at the same time
    for run in (whole, asked, resumed):
        assert in_processes(2, run) == [0, 0], run.__name__
    _assert_same(tmp_path / "whole" / "last.ckpt", tmp_path / "asked" / "last.ckpt")
    _assert_same(tmp_path / "whole" / "best.ckpt", tmp_path / "asked" / "best.ckpt")


@pytest.mark.usefixtures("catching")
def test_asked_before_anything_was_trained_it_gets_on_by_a_step(
    case: Case, tmp_path: Path, forget: Callable[[], None]
) -> None:
    whole = _fit(case.make(tmp_path), tmp_path / "whole")
    folder = tmp_path / "asked"
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as reason:
        _fit(case.make(tmp_path), folder)
    assert reason.value.signal_name == "SIGTERM"
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 1
    forget()
    _assert_same(whole.last_path, _fit(case.make(tmp_path), folder, resume=True).last_path)


@pytest.mark.usefixtures("catching")
def test_a_validation_or_a_test_by_itself_just_ends(case: Case, tmp_path: Path) -> None:
    run = case.make(tmp_path)
    checkpoints = _fit(run, tmp_path / "run")
    before = checkpoints.last_path.read_bytes()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[Preemption(checkpoints)]
    )
    os.kill(os.getpid(), signal.SIGUSR1)
    for evaluate in (trainer.validate, trainer.test):
        with pytest.raises(Interrupted) as reason:
            evaluate(run.module, datamodule=run.data, verbose=False)
        assert reason.value.saved is None
    assert checkpoints.last_path.read_bytes() == before


@pytest.mark.usefixtures("catching")
def test_a_worker_is_no_victim(case: Case, tmp_path: Path) -> None:
    """A cluster signals all processes of a run: loader workers go on until the run itself ends them."""

    class ToAll(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            loader: Any = trainer.train_dataloader
            workers = loader._iterator._workers
            assert len(workers) == 2
            for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
                for worker in workers:
                    os.kill(worker.pid, number)

    whole = _fit(case.make(tmp_path), tmp_path / "whole")
    signalled = _fit(case.make(tmp_path, num_workers=2), tmp_path / "signalled", ToAll())
    _assert_same(whole.last_path, signalled.last_path)
