"""Contract 5 across numbers of processes: a run goes on as it would have, or is refused with the reason."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.elastic import Cut, RandomDraws, trainer_settings_in_pieces
from core.training.checkpoints.files import KEY, read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from tests.contracts.case import Case, Run
from tests.contracts.cases import CASES, FORECASTING, TRANSLATION
from tests.contracts.processes import in_processes
from tests.contracts.test_5_resume import Kill, Killed

KEPT = 4
"""Optimiser steps after which the run is saved that others go on with."""


class Curve(pl.Callback):
    """The loss of every global batch over all processes, and the validation losses; the checkpoint after `KEPT` steps."""

    def __init__(self, folder: Path, *, keeps: bool) -> None:
        self.folder = folder
        self.keeps = keeps
        self.training: dict[int, float] = {}
        self.validation: dict[int, float] = {}
        self._before = torch.zeros(2, dtype=torch.float64)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._before = self._total(pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._before = torch.zeros(2, dtype=torch.float64)

    @staticmethod
    def _total(module: Any) -> torch.Tensor:
        total: torch.Tensor = module._training_sums_of_all().get("loss", torch.zeros(2, dtype=torch.float64))
        return total

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # last.ckpt is written after this hook, before each step.
        if self.keeps and trainer.global_step == KEPT + 1 and trainer.is_global_zero:
            shutil.copy(self.folder / "last.ckpt", self.folder / "kept.ckpt")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        total = self._total(pl_module)
        if pl_module.is_within_step:
            return
        loss, count = (total - self._before).tolist()
        self.training[trainer.global_step], self._before = loss / count, total

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.validation[trainer.global_step] = float(trainer.callback_metrics["val/loss"])

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            torch.save((self.training, self.validation), self.folder / "curve.pt")


class Elastic:
    """Trains a run on some processes, and lets it go on from its kept checkpoint on others."""

    def __init__(self, make: Callable[[], Run], folder: Path, **settings: Any) -> None:
        self.make = make
        self.folder = folder
        self.settings = settings

    def fit(self, name: str, *, processes: int, going_on: bool = False, **settings: Any) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True)
        if processes > 1:
            settings |= {"devices": processes, "strategy": "ddp", "use_distributed_sampler": False}
        kept = str(self.folder / "whole" / "kept.ckpt") if going_on else None

        def run() -> None:
            module, data = self.make()
            config = CheckpointConfig(every_n_steps=KEPT, every_minutes=None)
            trainer = pl.Trainer(
                accelerator="cpu",
                max_epochs=2,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=str(folder),
                callbacks=[RunCheckpoints(folder, config=config), Curve(folder, keeps=not going_on)],
                **{**self.settings, **settings},
            )
            trainer.fit(module, datamodule=data, ckpt_path=kept)

        if processes == 1:
            run()
        else:
            assert in_processes(processes, run) == [0] * processes

    def curve(self, name: str) -> tuple[dict[int, float], dict[int, float]]:
        training, validation = torch.load(self.folder / name / "curve.pt", weights_only=True)
        return training, validation

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = read_checkpoint(self.folder / name / "last.ckpt")["state_dict"]
        return weights

    def assert_same_curve(self, name: str) -> None:
        (whole, validated), (ours, our_validated) = self.curve("whole"), self.curve(name)
        assert list(ours) == [step for step in whole if step > KEPT]
        assert len(ours) > 4
        for step, loss in ours.items():
            assert loss == pytest.approx(whole[step], rel=1e-6), (name, step)
        later = {step: loss for step, loss in validated.items() if step > KEPT}
        assert later
        for step, loss in later.items():
            assert our_validated[step] == pytest.approx(loss, rel=1e-6), (name, step)


@pytest.mark.processes
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_saved_on_two_processes_and_resumed_on_one_and_three(case: Case, tmp_path: Path) -> None:
    """The same global batches, so the same loss at every step, whoever computes it."""
    elastic = Elastic(lambda: case.make(tmp_path), tmp_path / "runs", precision="64-true")
    elastic.fit("whole", processes=2)
    elastic.fit("one", processes=1, going_on=True)
    elastic.fit("three", processes=3, going_on=True)
    for name in ("one", "three"):
        elastic.assert_same_curve(name)


def _few_a_batch(folder: Path) -> Run:
    return FORECASTING.make(folder, batch_size=2)


def _by_tokens(folder: Path) -> Run:
    run = TRANSLATION.make(folder)
    run.data.batch_size, run.data.token_budget = None, 36
    return run


@pytest.mark.processes
@pytest.mark.parametrize(
    ("make", "settings"),
    [(_few_a_batch, {"limit_train_batches": 9, "limit_val_batches": 20}), (_by_tokens, {})],
    ids=["two_a_batch", "token_budget"],
)
def test_batches_smaller_than_the_number_of_processes(
    make: Callable[[Path], Run], settings: dict[str, Any], tmp_path: Path
) -> None:
    """A process that is left without an example computes one that counts nothing."""
    elastic = Elastic(lambda: make(tmp_path), tmp_path / "runs", precision="64-true", **settings)
    elastic.fit("whole", processes=2)
    elastic.fit("three", processes=3, going_on=True)
    elastic.assert_same_curve("three")


@pytest.mark.processes
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_many_pieces_are_the_same_to_the_last_bit_with_dropout(case: Case, tmp_path: Path) -> None:
    """2 processes become 1 that accumulates 2 pieces: the pieces are the same, and so is what is drawn for each."""
    elastic = Elastic(lambda: case.make(tmp_path, dropout=0.3), tmp_path / "runs")
    elastic.fit("whole", processes=2)
    elastic.fit("one", processes=1, going_on=True, accumulate_grad_batches=2)
    whole, ours = elastic.weights("whole"), elastic.weights("one")
    assert all(torch.equal(value, ours[name]) for name, value in whole.items())
    assert read_checkpoint(elastic.folder / "whole" / "last.ckpt")[KEY]["pieces"]["random"] is True
    with pytest.raises(ValueError, match=r"2 processes with.*batches 1.*1 process with.*product is 2.*--init_from"):
        elastic.fit("refused", processes=1, going_on=True)


def test_what_is_drawn_decides_whether_another_number_of_pieces_is_refused(
    train: Callable[..., RunCheckpoints], tmp_path: Path
) -> None:
    train(FORECASTING.make(tmp_path), tmp_path / "plain")
    with pytest.warns(UserWarning, match=r"saved on 1 process with .*goes on with 1 process with .*batches 2"):
        train(FORECASTING.make(tmp_path), tmp_path / "plain", resume=True, accumulate_grad_batches=2)
    train(FORECASTING.make(tmp_path, dropout=0.1), tmp_path / "dropout")
    with pytest.raises(ValueError, match="cut in 2 pieces instead of 1"):
        train(FORECASTING.make(tmp_path, dropout=0.1), tmp_path / "dropout", resume=True, accumulate_grad_batches=2)


def test_what_counts_pieces_is_held_to_the_steps_of_the_checkpoint(
    train: Callable[..., RunCheckpoints], tmp_path: Path
) -> None:
    """Lightning counts batches of a process: the same number means another moment once they are accumulated."""
    settings = {"val_check_interval": 3, "limit_train_batches": 6}
    with pytest.raises(Killed):
        train(FORECASTING.make(tmp_path), tmp_path / "run", callbacks=(Kill(4),), **settings)
    with pytest.raises(ValueError, match=r"limit_train_batches: 12, now 6(.|\n)*val_check_interval: 6, now 3"):
        train(FORECASTING.make(tmp_path), tmp_path / "run", resume=True, accumulate_grad_batches=2, **settings)
    doubled = {name: 2 * value for name, value in settings.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = train(FORECASTING.make(tmp_path), tmp_path / "run", resume=True, accumulate_grad_batches=2, **doubled)
    assert read_checkpoint(done.last_path)["global_step"] == 12


@pytest.mark.parametrize(
    ("settings", "stored", "now", "expected"),
    [
        ({"val_check_interval": 4, "limit_train_batches": 1.0}, 1, 1, {}),
        ({"val_check_interval": 4}, 2, 1, {"val_check_interval": 2}),
        ({"val_check_interval": 3}, 2, 1, {"val_check_interval": 1.5}),
        ({"val_check_interval": 1.0, "limit_train_batches": True}, 1, 2, {}),
        ({"val_check_interval": 0.5}, 1, 2, {}),
        ({"val_check_interval": 0.25}, 1, 2, {"val_check_interval": "0.25 of an epoch, every 2 steps (now it would be 2.5)"}),
    ],
)  # fmt: skip
def test_settings_in_pieces(settings: dict[str, Any], stored: int, now: int, expected: dict[str, Any]) -> None:
    assert trainer_settings_in_pieces(settings, stored=stored, now=now, steps_an_epoch=10) == {**settings, **expected}


def test_draws_that_begin_after_the_change_are_said_aloud() -> None:
    """A later stage may be the first that samples: the run was not refused, but does not go on as it would have."""
    draws = RandomDraws()
    two = {"processes": 2, "accumulation": 1, "random": False}
    with pytest.warns(UserWarning, match="can differ in the last bits"):
        draws.goes_on(two, now=Cut(processes=3, accumulation=1))
    with draws.watched(torch.device("cpu")):
        torch.ones(3).sum()
    assert not draws.any
    with pytest.warns(UserWarning, match="From this step on"), draws.watched(torch.device("cpu")):
        torch.rand(1)
    assert draws.any
