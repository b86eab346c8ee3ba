"""The paired bootstrap: known answers, what swapping does, and runs that cannot be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import paired_bootstrap as script
from scripts.paired_bootstrap import paired_bootstrap, read_runs

RESAMPLES = 2_000


def of_clips(better: int, worse: int, alike: int) -> tuple[np.ndarray, np.ndarray]:
    """One seed: `better` clips are right with ours alone, `worse` with theirs alone."""
    ours = np.array([[True] * better + [False] * worse + [True] * alike])
    theirs = np.array([[False] * better + [True] * worse + [True] * alike])
    return ours, theirs


def test_the_interval_is_that_of_the_normal_distribution_where_there_are_many_clips() -> None:
    ours, theirs = of_clips(300, 200, 500)
    found = paired_bootstrap(ours, theirs, resamples=20_000, seed=1)
    # A clip's difference is 1, -1 or 0: mean 0.1, variance 0.5 - 0.01.
    half = 1.6449 * math.sqrt(0.49 / 1000)
    assert found.difference == pytest.approx(0.1, abs=1e-12)
    assert found.low == pytest.approx(0.1 - half, abs=2e-3)
    assert found.high == pytest.approx(0.1 + half, abs=2e-3)
    assert found.share_above_0 > 0.999


def test_the_clips_are_paired() -> None:
    """Equally right on the same clips, nothing is uncertain; on others, as much as clips differ."""
    ours, _ = of_clips(100, 100, 0)
    alike = paired_bootstrap(ours, ours, resamples=RESAMPLES, seed=0)
    assert (alike.difference, alike.low, alike.high, alike.share_above_0) == (0.0, 0.0, 0.0, 0.0)
    apart = paired_bootstrap(ours, ~ours, resamples=RESAMPLES, seed=0)
    assert apart.difference == 0.0
    assert apart.low < -0.08
    assert apart.high > 0.08


@given(seed=st.integers(0, 1000), seeds=st.integers(1, 4), clips=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_swapping_the_two_turns_the_interval_round(seed: int, seeds: int, clips: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = generator.random((2, seeds, clips)) < 0.6
    one = paired_bootstrap(ours, theirs, resamples=200, seed=seed)
    other = paired_bootstrap(theirs, ours, resamples=200, seed=seed)
    assert other.difference == pytest.approx(-one.difference, abs=1e-12)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)
    assert one.low <= one.high


def test_a_clip_counts_with_its_mean_over_the_seeds() -> None:
    """Ten runs alike are one run: more seeds do not make clips more certain."""
    ours, theirs = of_clips(30, 20, 50)
    once = paired_bootstrap(ours, theirs, resamples=RESAMPLES, seed=3)
    assert paired_bootstrap(np.repeat(ours, 10, 0), np.repeat(theirs, 10, 0), resamples=RESAMPLES, seed=3) == once


def test_it_is_a_function_of_its_seed() -> None:
    ours, theirs = of_clips(3, 2, 8)
    first = paired_bootstrap(ours, theirs, resamples=50, seed=3)
    assert paired_bootstrap(ours, theirs, resamples=50, seed=3) == first
    assert paired_bootstrap(ours, theirs, resamples=50, seed=4) != first


@pytest.mark.parametrize(("ours", "theirs"), [((2, 3), (2, 4)), ((3,), (3,)), ((0, 3), (2, 3)), ((2, 0), (2, 0))])
def test_other_clips_are_refused(ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same clips"):
        paired_bootstrap(np.ones(ours, bool), np.ones(theirs, bool), resamples=10, seed=0)
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        paired_bootstrap(np.ones((1, 1), bool), np.ones((1, 1), bool), resamples=0, seed=0)


def predictions(file: Path, right: dict[str, bool]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"video": name, "class": "a", "predicted": "a" if yes else "b"} for name, yes in right.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(folder: Path, ours: dict[str, bool], theirs: dict[str, bool]) -> Path:
    predictions(folder / "test_predictions.jsonl", ours)
    predictions(folder / "baseline" / "test_predictions.jsonl", theirs)
    return folder


def test_clips_are_matched_by_name_in_whatever_order_they_stand(tmp_path: Path) -> None:
    first = run(tmp_path / "seed1", {"x": True, "y": False}, {"y": True, "x": False})
    second = run(tmp_path / "seed2", {"y": True, "x": True}, {"x": False, "y": False})
    names, ours, theirs = read_runs([first, second])
    assert names == ["x", "y"]
    assert ours.tolist() == [[True, False], [True, True]]
    assert theirs.tolist() == [[False, True], [False, False]]


def test_runs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    good = run(tmp_path / "seed1", {"x": True}, {"x": True})
    with pytest.raises(ValueError, match=r"seed2.*has other clips than .*seed1.*as y"):
        read_runs([good, run(tmp_path / "seed2", {"x": True, "y": True}, {"x": True})])
    with pytest.raises(ValueError, match=r"There is no .*seed3.*scripts\.results"):
        read_runs([good, tmp_path / "seed3"])
    twice = run(tmp_path / "seed4", {"x": True}, {"x": True}) / "test_predictions.jsonl"
    twice.write_text(twice.read_text() * 2)
    with pytest.raises(ValueError, match="line 2: the clip x is there twice"):
        read_runs([twice.parent])
    twice.write_text('{"video": "x"}\n')
    with pytest.raises(ValueError, match="line 1: expected an object with video, class and predicted"):
        read_runs([twice.parent])
    with pytest.raises(ValueError, match="No run is named"):
        read_runs([])


def test_the_record_keeps_what_it_has_and_says_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    names = [f"clip{number}" for number in range(40)]
    for seed in (1, 2):
        run(
            tmp_path / "runs" / "results" / "video_classification" / "some" / f"seed{seed}",
            dict.fromkeys(names, True),
            {name: number % 4 > 0 for number, name in enumerate(names)},
        )
    record = tmp_path / "results" / "video_classification" / "some.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"seeds": [1, 2], "metrics": {"top1": [1.0, 1.0]}}))
    monkeypatch.setattr("sys.argv", ["paired_bootstrap", "video_classification", "some", "--seeds", "1", "2"])
    script.main()
    made = json.loads(record.read_text())
    assert made["metrics"] == {"top1": [1.0, 1.0]}
    found = made["paired_bootstrap"]
    assert found["command"] == "python -m scripts.paired_bootstrap video_classification some --seeds 1 2"
    assert (found["clips"], found["resamples"], found["ours"], found["theirs"]) == (40, 10_000, [1.0] * 2, [0.75] * 2)
    assert found["difference"] == 0.25
    assert 0 < found["low"] < 0.25 < found["high"]
    monkeypatch.setattr("sys.argv", ["paired_bootstrap", "video_classification", "some", "--seeds", "1"])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert r"is about the seeds [1, 2], not [1]" in capsys.readouterr().err
    assert json.loads(record.read_text()) == made
