"""The harness measures what it says; no test here depends on how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import print_results, time_pair, write_results


class Clock:
    """A clock that moves only while the measured functions run."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(harness.time, "perf_counter", clock)
    return clock


def test_the_ratio_is_the_median_of_the_pairs(clock: Clock) -> None:
    """One slow run of the rival falls out of the median, and warm-up counts nowhere."""
    calls: list[str] = []
    rival_seconds = iter([100.0, 3.0, 3.0, 3.0, 50.0, 3.0])

    def ours() -> None:
        calls.append("ours")
        clock.now += 1.0

    def rival() -> None:
        calls.append("rival")
        clock.now += next(rival_seconds)

    result = time_pair(ours, rival=rival, case="c", rival_name="r", goal=2.0, num_pairs=5, num_warm_up=1)
    assert result.ratio == pytest.approx(3.0)
    assert result.ours == pytest.approx(1000.0)
    assert result.unit == "ms"
    # Each goes first in turn.
    assert calls[2:6] == ["ours", "rival", "rival", "ours"]


def test_a_device_is_waited_for_before_the_clock_is_read(clock: Clock) -> None:
    """What the device still works on after a call belongs to that call, and to no other."""
    waiting = [0.0]

    def call(seconds: float) -> None:
        clock.now += 0.001
        waiting[0] += seconds

    def synchronise() -> None:
        clock.now += waiting[0]
        waiting[0] = 0.0

    result = time_pair(
        lambda: call(1.0), rival=lambda: call(3.0), case="c", rival_name="r", num_pairs=4, synchronise=synchronise
    )
    assert result.ours == pytest.approx(1001.0)
    assert result.rival == pytest.approx(3001.0)
    assert result.spread == pytest.approx(0.0)


def test_results_are_kept_with_every_field(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")

    def step() -> None:
        clock.now += 0.123456789

    result = time_pair(step, rival=step, case="case", rival_name="rival", num_pairs=3, num_warm_up=0)
    rows = json.loads(write_results([result], name="x").read_text())
    assert rows[0].keys() == {"case", "ours", "rival", "rival_name", "unit", "ratio", "spread", "goal"}
    assert rows[0]["ours"] == 123.5
    print_results([result])
    assert "case" in capsys.readouterr().out


def test_too_few_pairs_have_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        time_pair(lambda: None, rival=lambda: None, case="c", rival_name="r", num_pairs=2)
