"""The last line of a command: one line of strict JSON, whatever the metrics are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.training.command.summary import fit_figures, print_summary
from core.training.watching import throughput as throughput_module
from core.training.watching.throughput import Throughput


def test_a_metric_without_a_finite_value_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"mase": math.nan, "loss": math.inf, "mae": 0.25}
    print_summary("finished", metrics, command="test", application="forecasting", run_dir=tmp_path / "ö\n", steps=3)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "application": "forecasting",
        "command": "test",
        "status": "finished",
        "run_dir": str(tmp_path / "ö\n"),
        "steps": 3,
        "metrics": {"mase": None, "loss": None, "mae": 0.25},
    }


def test_an_interrupted_run_asks_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others may be gone: its figures are those of the last checkpoint."""
    throughput = Throughput()
    work = {"units": 6.0, "steps": 6.0, "slots": 8.0, "seconds": 4.0, "waited": 1.0}
    throughput.load_state_dict({"fit": 5.0, "whole": work, "epoch": work, "memory": {"memory_mb": 512.04}})
    throughput.unit = "tokens"
    throughput.state_dict()  # a checkpoint is written
    trainer: Any = SimpleNamespace(current_epoch=2, global_step=31, callbacks=[throughput])
    together = fit_figures(trainer, throughput, status="finished")

    def alone(_: Any) -> Any:
        raise AssertionError("waits for processes that may be gone")

    monkeypatch.setattr(throughput_module, "gather_over_processes", alone)
    assert fit_figures(trainer, throughput, status="interrupted") == together
    assert together == {
        "epochs": 2,
        "steps": 31,
        "seconds": 5.0,
        "data_wait_share": 0.25,
        "tokens_per_second": 1.5,
        "padding_waste": 0.25,
        "memory_mb": 512.0,
    }
    trial: Any = SimpleNamespace(current_epoch=0, global_step=1, callbacks=[])
    assert fit_figures(trial, throughput, status="finished") == {"epochs": 0, "steps": 1}
