"""Averages of weights: the definition, exact resume, and that everything but training takes the average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from apps.forecasting.module import ForecastingModule
from core.training.averaging import AVERAGE, ExponentialAverage, average_checkpoints
from core.training.checkpoints.files import KEY, read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.warm_start import initialise_from
from tests.contracts.applications.forecasting import FORECASTING


class Weights(pl.Callback):
    """The weights after every optimiser step, and those that were validated."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Tensor]] = {}
        self.validated: dict[int, dict[str, Tensor]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.after[0] = self._copy(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.after[trainer.global_step] = self._copy(pl_module)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated[trainer.global_step] = self._copy(pl_module)

    @staticmethod
    def _copy(module: pl.LightningModule) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def fit(
    folder: Path, *callbacks: pl.Callback, data: Path, epochs: int = 2, resume: bool = False, accumulate: int = 1
) -> RunCheckpoints:
    run = FORECASTING.make(data)
    checkpoints = RunCheckpoints(folder, config=CheckpointConfig(every_n_steps=1, every_minutes=None))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[*callbacks, checkpoints],
    )
    trainer.fit(run.module, datamodule=run.data, ckpt_path=str(checkpoints.last_path) if resume else None)
    return checkpoints


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_what_its_definition_says(tmp_path: Path, accumulate: int) -> None:
    """Validated and saved, while training goes on with the weights themselves."""
    weights = Weights()
    checkpoints = fit(tmp_path / "run", ExponentialAverage(0.9), weights, data=tmp_path, accumulate=accumulate)
    expected = dict(weights.after[0])
    for step in range(1, max(weights.after) + 1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * weights.after[step][name] for name, value in expected.items()}
        for name, value in weights.validated.get(step, {}).items():
            torch.testing.assert_close(value, expected[name])
    checkpoint = read_checkpoint(checkpoints.last_path)
    for name, value in expected.items():
        torch.testing.assert_close(checkpoint[AVERAGE][name], value)
        assert torch.equal(checkpoint["state_dict"][name], weights.after[max(weights.after)][name])


def test_all_but_training_takes_the_average(tmp_path: Path) -> None:
    path = fit(tmp_path / "run", ExponentialAverage(0.9), data=tmp_path).last_path
    average = read_checkpoint(path)[AVERAGE]
    loaded = ForecastingModule.from_checkpoint(path)
    fresh = FORECASTING.make(tmp_path)
    fresh.data.prepare_data()
    fresh.data.setup("fit")
    started = fresh.module.build(fresh.data.preprocessing())
    initialise_from(started, path, application="forecasting")
    tested = FORECASTING.make(tmp_path)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=str(tmp_path))
    trainer.test(tested.module, datamodule=tested.data, ckpt_path=str(path), verbose=False)
    for name, value in average.items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert torch.equal(started.state_dict()[name.removeprefix("network.")], value)
        assert torch.equal(tested.module.state_dict()[name], value)


class Killed(Exception):
    """Stands for a SIGKILL."""


class Kill(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


def test_a_run_that_is_resumed_ends_with_the_same_weights_and_average(tmp_path: Path) -> None:
    whole = read_checkpoint(fit(tmp_path / "whole", ExponentialAverage(0.9), data=tmp_path).last_path)
    for step in (1, whole["global_step"] // 2):
        with pytest.raises(Killed):
            fit(tmp_path / str(step), ExponentialAverage(0.9), Kill(step), data=tmp_path)
        resumed = fit(tmp_path / str(step), ExponentialAverage(0.9), data=tmp_path, resume=True)
        found = read_checkpoint(resumed.last_path)
        for key in ("state_dict", AVERAGE):
            for name, value in whole[key].items():
                assert torch.equal(found[key][name], value), (step, key, name)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (ExponentialAverage(0.9), ExponentialAverage(0.99), "had decay 0.9, this one has .* decay 0.99"),
        (None, ExponentialAverage(0.9), "had no average of its weights"),
        (ExponentialAverage(0.9), None, "averaged its weights .*, this one does not"),
    ],
)
def test_resuming_with_another_average_is_refused(
    tmp_path: Path, before: ExponentialAverage | None, now: ExponentialAverage | None, message: str
) -> None:
    fit(tmp_path / "run", *([before] if before else []), data=tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "run", *([now] if now else []), data=tmp_path, resume=True)


def test_a_decay_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\), got 1.0"):
        ExponentialAverage(1.0)


def test_the_mean_of_checkpoints(tmp_path: Path) -> None:
    """Of what each is used with, to the last bit of float64 arithmetic; the result is a checkpoint like any other."""
    paths = [fit(tmp_path / str(epochs), data=tmp_path, epochs=epochs).last_path for epochs in (1, 2)]
    average_checkpoints(paths, tmp_path / "mean.ckpt")
    one, two = (read_checkpoint(path)["state_dict"] for path in paths)
    loaded = ForecastingModule.from_checkpoint(tmp_path / "mean.ckpt").state_dict()
    for name, value in loaded.items():
        assert torch.equal(value, ((one[name].double() + two[name].double()) / 2).to(value.dtype))


def test_checkpoints_of_different_networks_have_no_mean(tmp_path: Path) -> None:
    first = fit(tmp_path / "one", data=tmp_path, epochs=1).last_path
    run = FORECASTING.make(tmp_path, variant="segment")
    other = RunCheckpoints(tmp_path / "two", config=CheckpointConfig())
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, callbacks=[other],
        default_root_dir=str(tmp_path), enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(run.module, datamodule=run.data)
    with pytest.raises(ValueError, match="another network"):
        average_checkpoints([first, other.last_path], tmp_path / "mean.ckpt")
    changed = read_checkpoint(first)
    changed[KEY]["preprocessing"]["frequency"] = "W"
    torch.save(changed, tmp_path / "other_data.ckpt")
    with pytest.raises(ValueError, match="trained on data prepared otherwise"):
        average_checkpoints([first, tmp_path / "other_data.ckpt"], tmp_path / "mean.ckpt")
    with pytest.raises(ValueError, match="at least two checkpoints, got 1"):
        average_checkpoints([first], tmp_path / "mean.ckpt")
