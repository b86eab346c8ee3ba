"""A run that is started again and again must get on: starts that leave no checkpoint behind come to an end.

A scheduler starts a run again whenever its machine fails or is taken away, which may happen any number of times. A run that
never reaches its next checkpoint - memory that does not suffice, a node that is broken - would start for ever.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from core.training.command.finished_run import write_whole
from core.training.process.signals import Interrupted

FILE = "starts.json"


class Restarts(pl.Callback):
    """Counts the starts of a run, and refuses the one that would be one too many at the same step.

    Args:
        run_dir: the run's folder, in which `starts.json` is kept.
        max_starts: starts at one step, in a row, that are let through.
    """

    def __init__(self, run_dir: Path, *, max_starts: int) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.max_starts = max_starts

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The step is known now, and nothing has been trained yet.

        Raises:
            ValueError: on all processes, where this start would be one too many.
        """
        refused = None
        if trainer.is_global_zero:
            refused = _note_start(self.run_dir, step=trainer.global_step, max_starts=self.max_starts)
        refused = trainer.strategy.broadcast(refused)
        if refused is not None:
            raise ValueError(refused)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A start that a signal has ended says nothing of whether the run gets on."""
        if isinstance(exception, Interrupted) and trainer.is_global_zero:
            starts = _read(self.run_dir / FILE)
            _write(self.run_dir / FILE, starts[:-1])


def _note_start(run_dir: Path, *, step: int, max_starts: int) -> str | None:
    """Write down that a run starts; or what is to be said of a start too many."""
    here = [start for start in _read(run_dir / FILE) if start["step"] == step]
    if len(here) >= max_starts:
        since = here[0]["time"]
        return (
            f"This run has been started {len(here)} times at step {step} (since {since}) and has not reached its next "
            f"checkpoint. Look at the end of its log for what stops it; let it be checkpointed more often with "
            f"--checkpoint.every_n_steps; then remove {run_dir / FILE}, or raise --max_starts, to let it start again."
        )
    _write(run_dir / FILE, [*here, {"step": step, "time": time.strftime("%Y-%m-%d %H:%M:%S")}])
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    starts: list[dict[str, Any]] = json.loads(path.read_text())["starts"]
    return starts


def _write(path: Path, starts: list[dict[str, Any]]) -> None:
    write_whole(path, json.dumps({"starts": starts}, indent=2) + "\n")
