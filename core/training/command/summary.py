"""The last line that a command prints: what came of it, for whoever started it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only

from core.training.command.finished_run import Metrics, strict
from core.training.watching.throughput import Throughput

Status = Literal["finished", "interrupted"]


def fit_figures(trainer: pl.Trainer, throughput: Throughput, *, status: Status) -> dict[str, Any]:
    """How far a run has come and how fast it was, under the names of the last line.

    Of a finished run, all processes ask together; of an interrupted one, any may: speed is then as of its last checkpoint.

    Args:
        trainer: the run's trainer.
        throughput: what has measured the run; a trial of one batch does without.
        status: of the run.
    """
    figures: dict[str, Any] = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
    if throughput in trainer.callbacks:  # type: ignore[attr-defined]
        figures["seconds"] = round(throughput.fit_seconds, 2)
        figures |= throughput.figures(to_the_end=status == "finished")
    return figures


@rank_zero_only
def print_summary(
    status: Status, metrics: Metrics, *, command: str, application: str, run_dir: Path, **figures: Any
) -> None:
    """Print one line of JSON on standard output, on the first process.

    Args:
        status: whether the command did all that it had to do.
        metrics: test metrics, or validation metrics of `validate`; one without a finite value is null.
        command: `fit`, `validate` or `test`.
        application: its name.
        run_dir: the run's folder.
        figures: what else belongs there, as plain data, such as `fit_figures`.
    """
    line = {
        "application": application,
        "command": command,
        "status": status,
        "run_dir": str(run_dir),
        **figures,
        "metrics": strict(metrics),
    }
    print(json.dumps(line, allow_nan=False), flush=True)
