"""The share of training time spent waiting for data, over a real loader with a known delay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.throughput import Throughput
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


def fit(folder: Path, data: SlowData, *, step: float, epochs: int = 2) -> tuple[Throughput, pl.Trainer]:
    throughput = Throughput()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[throughput],
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
    throughput.load_state_dict({"fit": 0.0, "train": 0.0, "wait": 0.0})
    assert throughput.state_dict() == whole
    resumed = Throughput()
    resumed.load_state_dict(whole)
    assert resumed.state_dict() == whole
