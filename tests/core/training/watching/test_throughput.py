"""The share of training time spent waiting for data, over a real loader with a known delay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.watching.throughput import Throughput, Work, _joined
from core.training.watching.workload import Workload, peak_memory
from data.batching import Piece
from data.module import LoaderConfig, PlannedDataModule


class Slow:
    """Six examples that take their time."""

    lengths = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 6

    def batch(self, piece: Piece) -> torch.Tensor:
        time.sleep(self.seconds)
        return torch.zeros(1)


class SlowData(PlannedDataModule):
    def __init__(self, *, train: float, validation: float = 0.0) -> None:
        super().__init__(batch_size=1, seed=0, loader=LoaderConfig())
        self.parts = {"train": Slow(train), "validation": Slow(validation)}

    def dataset(self, part: str) -> Slow:
        return self.parts[part]

    def preprocessing(self) -> dict[str, Any]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {}


class SlowStep(pl.LightningModule):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seconds = seconds

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        time.sleep(self.seconds)
        return self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path,
    data: SlowData,
    *,
    step: float,
    epochs: int = 2,
    callbacks: Sequence[pl.Callback] = (),
    throughput: Throughput | None = None,
) -> tuple[Throughput, pl.Trainer]:
    throughput = throughput or Throughput()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=any(isinstance(callback, RunCheckpoints) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[throughput, *callbacks],
    )
    trainer.fit(SlowStep(step), datamodule=data)
    return throughput, trainer


def test_waiting_is_told_from_working(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Delays are lower bounds: a busy machine adds to both sides, so the shares are compared and not fixed."""
    waiting, trainer = fit(tmp_path, SlowData(train=0.03), step=0.0)
    assert waiting.wait_seconds >= 2 * 6 * 0.03 * 0.99
    assert waiting.wait_share > 0.5
    assert float(trainer.callback_metrics["train/data_wait_share"]) > 0.5
    assert f"of which {100 * waiting.wait_share:.1f} % waiting for data" in capsys.readouterr().out
    working, _ = fit(tmp_path, SlowData(train=0.0), step=0.03)
    assert working.train_seconds >= 2 * 6 * 0.03 * 0.99
    assert working.wait_share < 0.2


def test_writing_checkpoints_counts_on_neither_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunCheckpoints, "_write", lambda *_: time.sleep(0.1))
    checkpoints = RunCheckpoints(tmp_path, config=CheckpointConfig(every_n_steps=1, monitor=None))
    throughput, _ = fit(tmp_path, SlowData(train=0.0), step=0.0, callbacks=[checkpoints])
    assert checkpoints.seconds_spent > 1.0
    assert throughput.train_seconds < checkpoints.seconds_spent / 2


def test_a_checkpoint_within_a_validation_holds_no_time_of_it(tmp_path: Path) -> None:
    """A run that is stopped there saves there."""
    seen: list[dict[str, Any]] = []
    throughput = Throughput()

    class Saving(pl.Callback):
        def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if not trainer.sanity_checking:
                seen.append(throughput.state_dict())

    data = SlowData(train=0.0, validation=0.1)
    fit(tmp_path, data, step=0.0, epochs=1, callbacks=[Saving()], throughput=throughput)
    assert len(seen) == 6
    assert seen[-1]["epoch"]["seconds"] == pytest.approx(seen[0]["epoch"]["seconds"], abs=0.1)


def test_an_epoch_goes_on_from_a_checkpoint_within_it() -> None:
    """What was done of it counts once: in its own figures and in the run's, also where the next epoch comes first."""
    done = {"units": 30.0, "steps": 30.0, "slots": 40.0, "seconds": 3.0, "waited": 1.5}
    twice = {name: 2 * value for name, value in done.items()}
    state: dict[str, Any] = {"fit": 4.0, "whole": twice, "epoch": done, "memory": {}}
    resumed = Throughput()
    resumed.load_state_dict(state)
    again = resumed.state_dict()
    assert (again["whole"], again["epoch"]) == (state["whole"], state["epoch"])
    figures = resumed.figures()
    assert figures["data_wait_share"] == 0.5
    trainer = pl.Trainer(logger=False, enable_checkpointing=False)
    resumed.on_train_epoch_start(trainer, SlowStep(0.0))
    assert resumed.whole == Work(**state["whole"]) + Work(**done)
    assert resumed.whole.padding_waste == 0.25
    assert resumed.whole.per_second == 10.0


def test_an_exception_stops_the_clock(tmp_path: Path) -> None:
    class Failing(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("enough")

    throughput = Throughput()
    with pytest.raises(RuntimeError, match="enough"):
        fit(tmp_path, SlowData(train=0.02), step=0.0, callbacks=[Failing()], throughput=throughput)
    first = throughput.figures()
    time.sleep(0.2)
    assert throughput.figures() == first
    assert first["data_wait_share"] > 0.3


def test_seconds_of_processes_are_meant_and_work_is_added() -> None:
    joined = _joined([(3.0, 4.0, 5.0, 2.0, 1.0), (1.0, 2.0, 5.0, 4.0, 0.0)])
    assert joined == Work(units=4.0, steps=6.0, slots=10.0, seconds=3.0, waited=0.5)


def test_fillers_are_padding_alone() -> None:
    """A process without an example computes one of weight 0: for nothing, as padding is."""
    lengths, weight = torch.tensor([3, 1, 2]), torch.tensor([1.0, 1.0, 0.0])
    units = torch.tensor([5, 6, 7])
    assert tuple(map(int, Workload.of_lengths(lengths, size=4, weight=weight))) == (4, 4, 12)
    assert tuple(map(int, Workload.of_lengths(lengths, size=4, weight=weight, units=units))) == (11, 4, 12)


def test_the_peak_of_memory_is_in_megabytes() -> None:
    before = peak_memory()
    taken = torch.ones(int(before * 1e6 / 4))  # float32: as much again
    assert before + 0.5 * before < peak_memory() < 3 * before
    assert taken[0] == 1


def test_a_checkpoint_from_before_work_was_counted_resumes() -> None:
    throughput = Throughput()
    throughput.load_state_dict({"fit": 7.0, "train": 5.0, "wait": 1.0})
    assert throughput.fit_seconds == 7.0
    assert throughput.whole == Work()


def test_validation_counts_on_neither_side(tmp_path: Path) -> None:
    throughput, _ = fit(tmp_path, SlowData(train=0.0, validation=0.1), step=0.0)
    validated = 2 * 6 * 0.1
    assert throughput.train_seconds < validated / 2
    assert throughput.wait_seconds < validated / 2


def test_nothing_trained_is_no_share() -> None:
    assert Throughput().wait_share == 0.0


def test_a_checkpoint_that_is_tested_afterwards_takes_no_seconds_back(tmp_path: Path) -> None:
    """The best checkpoint is often an earlier one; its own seconds are not those of the run."""
    throughput = Throughput()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        callbacks=[throughput],
    )
    trainer.fit(SlowStep(0.001), datamodule=SlowData(train=0.001))
    whole = throughput.state_dict()
    assert whole["fit"] > 0
    throughput.setup(trainer, trainer.lightning_module, "test")
    throughput.load_state_dict({"fit": 0.0, "train": 0.0, "wait": 0.0})
    assert throughput.state_dict() == whole
    resumed = Throughput()
    resumed.load_state_dict(whole)
    assert resumed.state_dict() == whole
