"""A progress bar where someone watches, a line now and then where a file is written; both with the time left."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, Timer, TQDMProgressBar

SHOWN = ("train/loss", "val/loss")
SHOWN_WITHIN = "train/loss_piece"


def progress_bar() -> ProgressBar:
    """The bar for this output: a terminal gets a live bar, a log file one line an epoch."""
    return RunBar(refresh_rate=5) if sys.stdout.isatty() else EpochLines()


class TimeLeft:
    """Estimates how long a run still takes, from the steps of the last epoch's length, validations included.

    It ends by trainer.max_epochs, max_steps or max_time, whatever comes first. Not from the mean since the start: stages
    of a run may differ much in speed.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer: Any = trainer
        self._marks = deque([(time.monotonic(), trainer.global_step)])
        # trainer.limit_train_batches is in it already.
        pieces = int(trainer.num_training_batches)
        self._steps_an_epoch = max(-(-pieces // trainer.accumulate_grad_batches), 1)
        ends = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * self._steps_an_epoch)
        self._last_step = min(ends) if ends else None

    def seconds(self) -> float | None:
        """Seconds left; None where nothing says when the run ends, or nothing is known of its speed yet."""
        now, step = time.monotonic(), self._trainer.global_step
        if step > self._marks[-1][1]:
            self._marks.append((now, step))
        while len(self._marks) > 2 and step - self._marks[1][1] >= self._steps_an_epoch:
            self._marks.popleft()
        begun, first = self._marks[0]
        left = [timer.time_remaining() for timer in self._trainer.callbacks if isinstance(timer, Timer)]
        if self._last_step is not None and step > first:
            left.append(max(self._last_step - step, 0) * (now - begun) / (step - first))
        known = [max(seconds, 0.0) for seconds in left if seconds is not None]
        return min(known) if known else None


def duration(seconds: float) -> str:
    """As people say it: 95 s, 12 min, 3 h 20 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


class RunBar(TQDMProgressBar):
    """Lightning's live bar of an epoch, with the time that the whole run still takes."""

    _left: TimeLeft | None = None

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Start the clock."""
        super().on_train_start(trainer, *args)
        self._left = TimeLeft(trainer)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        seconds = self._left.seconds() if self._left is not None else None
        return metrics if seconds is None else {"run_left": duration(seconds), **metrics}


class EpochLines(ProgressBar):
    """One line an epoch, in long ones every few minutes: losses, speed, time left.

    A live bar in a log file is thousands of lines.

    Args:
        every_minutes: between two lines within an epoch.
    """

    def __init__(self, *, every_minutes: float = 5.0) -> None:
        super().__init__()
        self.every_minutes = every_minutes
        self._enabled = True
        self._start = 0.0
        self._last_line = 0.0
        self._first_epoch = 0
        self._first_step = 0
        self._left: TimeLeft | None = None

    def disable(self) -> None:
        """Lightning asks this of all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show lines again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process only."""
        if self._enabled:
            print(*args, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = self._last_line = time.monotonic()
        self._first_epoch = trainer.current_epoch
        self._first_step = trainer.global_step
        self._left = TimeLeft(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch before: only now are all its metrics known."""
        if trainer.current_epoch > self._first_epoch:
            self._line(trainer, f"epoch {trainer.current_epoch}{_of(trainer)}", shown=SHOWN)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line within a long epoch."""
        if time.monotonic() - self._last_line >= 60 * self.every_minutes:
            share = f"{(batch_idx + 1) / trainer.num_training_batches:.0%}"
            self._line(trainer, f"epoch {trainer.current_epoch + 1}{_of(trainer)}, {share} done", shown=(SHOWN_WITHIN,))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the last epoch."""
        self._line(trainer, f"epoch {trainer.current_epoch}{_of(trainer)}", shown=SHOWN)

    def _line(self, trainer: pl.Trainer, where: str, *, shown: tuple[str, ...]) -> None:
        if not self._enabled:
            return
        assert self._left is not None
        self._last_line = time.monotonic()
        logged = trainer.callback_metrics
        parts = [where, *(f"{name} {float(logged[name]):.4f}" for name in shown if name in logged)]
        rate = (trainer.global_step - self._first_step) / max(self._last_line - self._start, 1e-9)
        parts.append(f"{rate:.1f} steps/s")
        if shown == SHOWN:  # work is counted by epochs
            for name in logged:
                if name.endswith("_per_second"):
                    unit = name.removeprefix("train/").removesuffix("_per_second")
                    parts.append(f"{float(logged[name]):.0f} {unit}/s")
        left = self._left.seconds()
        print("  ".join(parts) + (f"  {duration(left)} left" if left else ""), flush=True)


def _of(trainer: pl.Trainer) -> str:
    return f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
