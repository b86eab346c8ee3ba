"""What a run leaves behind: its metrics as a file and as a table."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.training.command.finished_run import FinishedRun, format_table, write_whole

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=80)

METRICS = {"loss": 0.5, "mae": 1.25, "seasonal_naive/mae": 2.0, "seasonal_naive/mse": 4.0}


def test_metrics_are_sorted_by_who_made_them(tmp_path: Path) -> None:
    run = FinishedRun(None, None, tmp_path, METRICS, baseline_metrics={"mae": 1.5, "seasonal_naive/mae": 2.0})
    assert run.forecasters() == {
        "ours": {"loss": 0.5, "mae": 1.25},
        "seasonal_naive": {"mae": 2.0, "mse": 4.0},
        "feed_forward": {"mae": 1.5},
    }
    assert next(iter(run.forecasters())) == "ours"
    assert "feed_forward" not in FinishedRun(None, None, tmp_path, METRICS).forecasters()


def test_a_training_writes_its_facts_and_a_test_leaves_them_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained = FinishedRun(None, None, folder, METRICS, facts={"seed": 3, "folder": Path("x")}).write()
    tested = FinishedRun(None, None, folder, {"mae": 9.0}).write()
    assert (trained.name, tested.name) == ("metrics.json", "test_metrics.json")
    assert json.loads(trained.read_text()) == {
        "metrics": {"loss": 0.5, "mae": 1.25},
        "baselines": {"seasonal_naive": {"mae": 2.0, "mse": 4.0}},
        "seed": 3,
        "folder": "x",
    }
    assert json.loads(tested.read_text()) == {"metrics": {"mae": 9.0}, "baselines": {}}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "metrics.json"
    write_whole(path, "old ä")
    write_whole(path, "newer ä")
    assert path.read_text(encoding="utf-8") == "newer ä"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "newest")
    assert path.read_text(encoding="utf-8") == "newer ä"
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """Results in a shared folder that their owner alone can read are no results."""
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "metrics.json", "{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "metrics.json").stat().st_mode) == 0o644


# The table ------------------------------------------------------------------------------------------------------------

numbers = st.floats(-1e300, 1e300) | st.sampled_from([None, math.nan, math.inf, -math.inf])


@patient
@given(rows=st.dictionaries(st.sampled_from(["ours", "b", "c"]), st.tuples(numbers, numbers), min_size=1))
def test_every_row_has_a_column_a_metric(rows: dict[str, tuple[float | None, float | None]]) -> None:
    """Columns never run together, whatever the numbers, and numbers keep at least three digits."""
    values = {
        who: {name: value for name, value in zip(("mae", "coverage80"), pair, strict=True) if value is not None}
        for who, pair in rows.items()
    }
    header, rule, *lines = format_table(values, ["mae", "coverage80"]).splitlines()
    assert header.split() == ["mae", "coverage80"]
    assert set(rule) == {"-"}
    assert len(lines) == len(rows)
    for line, (who, pair) in zip(lines, rows.items(), strict=True):
        assert len(line) == len(header) == len(rule)
        name, *shown = line.split()
        assert name == who
        for text, value in zip(shown, pair, strict=True):
            if value is None or math.isnan(value):
                assert text == "-"
            else:
                assert float(text) == pytest.approx(value, rel=1e-3)


def test_the_table_as_a_user_sees_it() -> None:
    rows = {"ours": {"mae": 0.123456, "mse": 1234.56}, "seasonal_naive": {"mae": 12.0, "mase": float("nan")}}
    assert format_table(rows, ["mae", "mse", "mase"], names={"ours": "network"}).splitlines() == [
        "                       mae         mse        mase",
        "--------------------------------------------------",
        "network             0.1235        1235           -",
        "seasonal_naive          12           -           -",
    ]
