"""A live bar for a terminal, a line an epoch for a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.demos.boring_classes import BoringModel

from core.training.watching.progress import EpochLines, RunBar, TimeLeft, duration, progress_bar


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
    class Stopping(Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, *_: object) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    lines = EpochLines()
    fit(tmp_path, lines, max_epochs=-1, callbacks=[lines, Stopping()])
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
    assert type(progress_bar()) is (RunBar if watched else EpochLines)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("core.training.watching.progress.time.monotonic", lambda: self.now)


class Watched(Callback):
    """Lets each step take its seconds, and asks for the time left after it."""

    def __init__(self, clock: Clock, seconds: Callable[[int], float], *, validation: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.validation = validation
        self.found: dict[int, float | None] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.left = TimeLeft(trainer)
        assert self.left._last_step is None or self.left.seconds() is None, "before its first step nothing is known"

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        self.clock.now += self.seconds(trainer.global_step)
        self.found[trainer.global_step] = self.left.seconds()

    def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
        self.clock.now += 0.0 if trainer.sanity_checking else self.validation


def watch(folder: Path, watched: Watched, **settings: object) -> pl.Trainer:
    return fit(folder, EpochLines(), callbacks=[watched], enable_progress_bar=False, **settings)


@pytest.mark.parametrize(
    ("limits", "last"),
    [({"max_epochs": 4}, 12), ({"max_epochs": -1, "max_steps": 8}, 8), ({"max_epochs": 4, "max_steps": 5}, 5)],
    ids=["epochs", "steps", "both"],
)
def test_the_time_left_is_that_of_the_steps_left(
    limits: dict[str, int], last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(Clock(monkeypatch), lambda _: 2.0)
    watch(tmp_path, watched, **limits)
    assert watched.found == {step: pytest.approx(2.0 * (last - step)) for step in range(1, last + 1)}


def test_steps_of_several_pieces_are_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(Clock(monkeypatch), lambda _: 1.0)
    watch(tmp_path, watched, max_epochs=2, limit_train_batches=4, accumulate_grad_batches=2)
    assert watched.found[2] == pytest.approx(2 * 2.0, abs=1.0)  # it asks after every piece
    assert watched.found[4] == 0.0


def test_an_epoch_in_which_steps_take_longer_is_noticed_within_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen encoder thaws: the mean since the start would promise an early end for long."""
    watched = Watched(Clock(monkeypatch), lambda step: 1.0 if step <= 9 else 10.0, validation=3.0)
    watch(tmp_path, watched, max_epochs=6, limit_val_batches=1)
    assert watched.found[9] == pytest.approx(9 * (3 * 1.0 + 3.0) / 3)
    assert watched.found[12] == pytest.approx(6 * (3 * 10.0 + 3.0) / 3)


def test_a_run_that_resumes_within_an_epoch_counts_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Saving(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "four.ckpt")

    lines = EpochLines()
    fit(tmp_path, lines, max_epochs=2, callbacks=[lines, Saving()])
    watched = Watched(Clock(monkeypatch), lambda _: 2.0)
    watch(tmp_path, watched, max_epochs=4, ckpt_path=str(tmp_path / "four.ckpt"))
    assert watched.found == {step: pytest.approx(2.0 * (12 - step)) for step in range(5, 13)}


def test_a_time_limit_may_come_first(tmp_path: Path) -> None:
    left: list[float | None] = []

    class Asking(Callback):
        def on_train_start(self, trainer: pl.Trainer, *_: object) -> None:
            self.left = TimeLeft(trainer)

        def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
            left.append(self.left.seconds())

    fit(tmp_path, EpochLines(), callbacks=[Asking()], enable_progress_bar=False, max_epochs=1, max_time={"hours": 1})
    fit(tmp_path, EpochLines(), callbacks=[Asking()], enable_progress_bar=False, max_epochs=-1, max_time={"seconds": 3})
    assert left[0] is not None
    assert left[0] < 3000
    assert left[3] is not None
    assert 0 < left[3] <= 3
    assert left[3] > left[-1]  # type: ignore[operator]


def test_a_long_epoch_has_lines_within_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, EpochLines(every_minutes=0.0), max_epochs=2)
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    within = [[f"epoch {epoch}/2, {share} done" for share in ("33%", "67%", "100%")] for epoch in (1, 2)]
    assert lines == [*within[0], "epoch 1/2", *within[1], "epoch 2/2"]


def test_the_live_bar_says_how_long_the_run_takes(tmp_path: Path) -> None:
    bar = RunBar(refresh_rate=1)
    shown: list[dict[str, object]] = []

    class Asking(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            shown.append(dict(bar.get_metrics(trainer, pl_module)))

    fit(tmp_path, EpochLines(), callbacks=[bar, Asking()], max_epochs=2)
    assert [next(iter(each)) for each in shown] == ["run_left"] * 6
    assert shown[-1]["run_left"] == "0 s"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (95.2, "95 s"), (740.0, "12 min"), (12010.0, "3 h 20 min"), (7199.0, "2 h 00 min")],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
