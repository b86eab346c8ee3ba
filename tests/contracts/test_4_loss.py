"""Contract 4: the optimiser sees sum / count over the global batch, however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.files import read_checkpoint
from core.training.optimisation import OptimizerConfig
from tests.contracts.case import Case, Run, in_double
from tests.contracts.cases import CASES


class Gradients(pl.Callback):
    """The gradient of every optimiser step, after clipping, and the first batch."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []
        self.first: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.first = batch if self.first is None else self.first

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        gradients = [parameter.grad.flatten() for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients:
            self.seen.append(torch.cat(gradients).clone())


def _fit(case: Case, train: Callable[..., Any], folder: Path, *, mean: str, name: str, **settings: Any) -> Gradients:
    gradients = Gradients()
    run = case.make(folder, optimizer=OptimizerConfig(name="sgd", lr=0.05))
    run.module.loss_mean = mean
    train(
        run, folder / name, callbacks=(gradients,), max_epochs=1, precision="64-true", gradient_clip_val=0.5, **settings
    )
    return gradients


@pytest.mark.parametrize("mean", ["token", "sequence"])
def test_accumulated_pieces_give_the_gradient_of_the_whole(
    case: Case, train: Callable[..., Any], tmp_path: Path, mean: str
) -> None:
    """Pieces of unequal size and with unequal counts: a mean of their means would be wrong."""
    whole = _fit(case, train, tmp_path, mean=mean, name="whole")
    for pieces in (3, 4):
        cut = _fit(case, train, tmp_path, mean=mean, name=f"cut{pieces}", accumulate_grad_batches=pieces)
        assert len(cut.seen) == len(whole.seen) > 3
        for ours, theirs in zip(cut.seen, whole.seen, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_the_gradient_is_that_of_sum_over_count(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    """Against autograd on the plain quotient, without any of the trainer's arithmetic."""
    gradients = Gradients()
    run: Run = case.make(tmp_path, optimizer=OptimizerConfig(name="sgd", lr=0.05))
    train(run, tmp_path / "run", callbacks=(gradients,), max_epochs=1, precision="64-true", limit_train_batches=2)
    fresh: Run = case.make(tmp_path, optimizer=OptimizerConfig(name="sgd", lr=0.05))
    fresh.data.prepare_data()
    fresh.data.setup("fit")
    torch.set_default_dtype(torch.float64)
    try:
        fresh.module.build(fresh.data.preprocessing())
    finally:
        torch.set_default_dtype(torch.float32)
    loss = fresh.module.training_loss(in_double(gradients.first))
    (loss.sum / loss.count).backward()
    # What a first stage leaves alone has none.
    expected = torch.cat([each.grad.flatten() for each in fresh.module.parameters() if each.grad is not None])
    torch.testing.assert_close(gradients.seen[0], expected, rtol=1e-6, atol=1e-12)


def test_the_logged_loss_is_exact_over_unequal_batches(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    """Validation loss is one number, whatever the batch size."""
    values = []
    for batch_size in (7, 1000):
        run = case.make(tmp_path, batch_size=batch_size)
        run.data.prepare_data()
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, precision="64-true")
        trainer.validate(run.module, datamodule=run.data, verbose=False)
        values.append(float(trainer.callback_metrics["val/loss"]))
    assert values[0] == pytest.approx(values[1], rel=1e-10)


def test_half_precision_that_overflows_is_refused(case: Case, tmp_path: Path) -> None:
    run = case.make(tmp_path)
    trainer = pl.Trainer(accelerator="cpu", precision="16-true", logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="bf16-mixed"):
        trainer.fit(run.module, datamodule=run.data)


@pytest.mark.processes
def test_two_processes_take_the_steps_of_one(
    case: Case, in_two: Callable[..., None], here: Callable[..., None], tmp_path: Path
) -> None:
    """1 x 26, 4 accumulated pieces, 2 processes, and 2 processes x 2 pieces: the same weights to 1e-6 in float64.

    The last once: how processes and pieces go together is no application's business.
    """
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    cuts = {
        "one": [],
        "accumulated": ["--trainer.accumulate_grad_batches", "4"],
        "two": [],
        "both": ["--trainer.accumulate_grad_batches", "2"],
    }
    if case is not CASES[0]:
        del cuts["both"]
    states = {}
    for name, settings in cuts.items():
        run = in_two if name in ("two", "both") else here
        run(case, "fit", "-c", str(config), "--run_dir", str(tmp_path / name), *settings)
        states[name] = read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
    for name in list(cuts)[1:]:
        assert states[name]["global_step"] == states["one"]["global_step"]
        # What throughput is made from counts every example once, whoever computes it, and no filler.
        done, alone = (states[which]["callbacks"]["Throughput"]["whole"] for which in (name, "one"))
        assert [done[what] for what in ("units", "steps")] == [alone[what] for what in ("units", "steps")]
        for key, value in states["one"]["state_dict"].items():
            torch.testing.assert_close(
                states[name]["state_dict"][key], value, rtol=1e-6, atol=1e-9, msg=f"{name} {key}"
            )


@pytest.mark.processes
def test_two_processes_measure_what_one_does(
    case: Case, in_two: Callable[..., None], here: Callable[..., None], tmp_path: Path
) -> None:
    """Contract 7: every test example counts once, also where the last batch leaves a process without one."""
    import json

    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    here(case, "fit", "-c", str(config), "--run_dir", str(tmp_path / "run"), "--trainer.max_epochs", "1")
    one = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    rows = None if case.rows_file is None else (tmp_path / "run" / case.rows_file).read_text()
    in_two(case, "test", "-c", str(config), "--run_dir", str(tmp_path / "run"), "--ckpt_path", "best")
    two = json.loads((tmp_path / "run" / "test_metrics.json").read_text())["metrics"]
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-9), name
    assert rows is None or rows == (tmp_path / "run" / str(case.rows_file)).read_text()
