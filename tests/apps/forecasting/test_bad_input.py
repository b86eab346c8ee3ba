"""What a user hears of forecasting data that cannot be used: exit status 2, one message, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apps.forecasting.__main__ import FORECASTING
from core.training.cli import main


def _rows(values: list[float], *, name: str = "a", start: str = "2024-01-01") -> list[str]:
    dates = np.datetime64(start) + np.arange(len(values))
    return [f"{name},{date},{value}" for date, value in zip(dates, values, strict=True)]


WAVE = [float(f"{np.sin(day / 3):.4f}") for day in range(60)]
HEADER = "unique_id,ds,y"
GOOD = [HEADER, *_rows(WAVE)]


def _with(position: int, line: str) -> list[str]:
    return [*GOOD[:position], line, *GOOD[position + 1 :]]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)

    def _fit(lines: list[str], *more: str) -> None:
        (tmp_path / "panel.csv").write_text("\n".join(lines) + ("\n" if lines else ""))
        main(
            FORECASTING,
            [
                "fit", "--data.path", "panel.csv", "--data.context", "6", "--data.horizon", "2", "--data.season_length", "3",
                "--data.batch_size", "16", "--run_dir", "run", "--data.cache_dir", "cache", "--trainer.max_epochs", "1",
                "--model.network.recurrent", '{"kind": "gru", "hidden_size": 4}', "--trainer.accelerator", "cpu",
                "--trainer.logger", "false", "--baseline.enabled", "false", *more,
            ],
        )  # fmt: skip

    return _fit


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        ([], [], ["panel.csv", "empty"]),
        ([HEADER], [], ["panel.csv", "no row"]),
        (["unique_id,ds,value", *GOOD[1:]], ["--data.file.layout", "long"], ["'y'", "value"]),
        (_with(7, "a,2024-02-30,1"), [], ["panel.csv, line 8", "2024-02-30"]),
        (_with(7, "a,2024-01-06,1"), [], ["2024-01-06", "lines 7 and 8"]),
        ([*GOOD[:7], *GOOD[8:]], [], ["2024-01-07", "fill"]),
        (_with(7, "a,2024-01-07,inf"), [], ["panel.csv, line 8", "inf"]),
        (_with(7, "a,2024-01-07,high"), [], ["panel.csv, line 8", "high"]),
        (GOOD, ["--data.horizon", "13"], ["horizon is 13", "validation part has 6"]),
        (GOOD[:8], [], ["horizon", "part has"]),
        (GOOD, ["--data.path", "pannel.csv"], ["pannel.csv", "panel.csv"]),
        (GOOD, ["--data.split", "SplitByRows"], ["train"]),
    ],
)
def test_it_is_refused_with_the_place(
    fit: Callable[..., None], capfd: pytest.CaptureFixture[str], lines: list[str], arguments: list[str], said: list[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        fit(lines, *arguments)
    assert raised.value.code == 2
    message = capfd.readouterr().err
    assert "Traceback" not in message
    for part in said:
        assert part in message, message


def test_what_can_be_used_is_used_and_said(
    fit: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Unsorted rows, a constant series, a series too short for a window, and a gap that may be filled."""
    lines = [
        HEADER,
        *reversed(_rows(WAVE)),
        *_rows([5.0] * 60, name="flat"),
        *_rows([1.0, 2.0, 3.0], name="short"),
        *_rows(WAVE[:30], name="gap"),
        *_rows(WAVE[30:], name="gap", start="2024-02-03"),
    ]
    fit(lines, "--data.file.fill", "missing")
    message = capfd.readouterr().err
    for word in ("sort", "flat", "short"):
        assert word in message, message
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert (tmp_path / "run" / "plots" / "forecast.png").stat().st_size > 10_000
