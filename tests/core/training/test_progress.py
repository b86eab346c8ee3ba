"""A live bar for a terminal, a line an epoch for a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.demos.boring_classes import BoringModel

from core.training.progress import EpochLines, progress_bar


class Logging(BoringModel):
    """Logs the two losses under the names that every application uses."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.step(batch)
        self.log("train/loss", 0.25 + self.current_epoch, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", 0.5 + self.current_epoch)


def fit(folder: Path, lines: EpochLines, *, ckpt_path: str | None = None, **settings: object) -> pl.Trainer:
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "limit_train_batches": 3,
            "limit_val_batches": 1,
            "default_root_dir": str(folder),
            "callbacks": [lines],
            **settings,
        }
    )
    trainer.fit(Logging(), ckpt_path=ckpt_path)
    return trainer


def test_every_epoch_has_its_line_with_its_own_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, EpochLines(), max_epochs=3)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch {epoch + 1}/3  train/loss {epoch + 0.25:.4f}  val/loss {epoch + 0.5:.4f}  ")
        assert re.search(r"  \d+\.\d steps/s", line)
    assert len(lines) == 3
    assert "left" not in lines[-1]


def test_a_run_that_goes_on_counts_from_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(tmp_path, EpochLines(), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    capsys.readouterr()
    fit(tmp_path, EpochLines(), max_epochs=4, ckpt_path=str(tmp_path / "two.ckpt"))
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert lines == ["epoch 3/4", "epoch 4/4"]


def test_without_a_last_epoch_nothing_is_said_of_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, EpochLines(), max_epochs=-1, max_steps=6)
    out = capsys.readouterr().out
    assert re.search(r"^epoch \d+  train/loss", out, re.MULTILINE)
    assert "left" not in out


def test_other_processes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = EpochLines()
    lines.disable()
    fit(tmp_path, lines, max_epochs=2)
    lines.print("a word")
    assert "epoch" not in (silent := capsys.readouterr().out)
    assert "a word" not in silent
    lines.enable()
    lines.print("a word")
    assert capsys.readouterr().out == "a word\n"


@pytest.mark.parametrize("watched", [False, True])
def test_a_live_bar_is_for_terminals_alone(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: watched)
    assert type(progress_bar()) is (TQDMProgressBar if watched else EpochLines)
