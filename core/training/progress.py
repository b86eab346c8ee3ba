"""A progress bar where someone watches, a line an epoch where a file is written."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

SHOWN = ("train/loss", "val/loss")


def progress_bar() -> ProgressBar:
    """The bar for this output: a terminal gets a live bar, a log file one line an epoch."""
    return TQDMProgressBar(refresh_rate=5) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """One line an epoch: losses, steps a second, time left. A live bar in a log file is thousands of lines."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = 0.0
        self._first_epoch = 0
        self._first_step = 0

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
        self._start = time.monotonic()
        self._first_epoch = trainer.current_epoch
        self._first_step = trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch before: only now are all its metrics known."""
        if trainer.current_epoch > self._first_epoch:
            self._line(trainer, done=trainer.current_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the last epoch."""
        self._line(trainer, done=trainer.current_epoch)

    def _line(self, trainer: pl.Trainer, *, done: int) -> None:
        if not self._enabled:
            return
        seconds = time.monotonic() - self._start
        metrics = "".join(
            f"  {name} {float(trainer.callback_metrics[name]):.4f}"
            for name in SHOWN
            if name in trainer.callback_metrics
        )
        last = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        of = f"/{last}" if last else ""
        left = (last - done) * seconds / max(done - self._first_epoch, 1) if last else 0.0
        rate = (trainer.global_step - self._first_step) / max(seconds, 1e-9)
        print(f"epoch {done}{of}{metrics}  {rate:.1f} steps/s" + (f"  {left:.0f} s left" if left else ""), flush=True)
