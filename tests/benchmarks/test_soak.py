"""The soak finds no difference where there is none, and every one where there is."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.forecasting.__main__ import FORECASTING
from benchmarks.soak import MOMENTS, CaseResult, Kill, Soak, dealt_moments, write
from benchmarks.soak_cases import command_of
from benchmarks.soak_compare import differences, differences_of_runs, logged
from core.training.cli import main


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """With the uninterrupted run of forecasting, made in this process: as good as one of its own, and started already."""
    soak = Soak(tmp_path_factory.mktemp("soak"), seed=0)
    run_dir = soak.folder / "forecasting" / "uninterrupted_1" / "run"
    config = soak.config("forecasting")
    arguments = command_of("forecasting", config, run_dir=run_dir, num_processes=1, num_workers=0)
    main(FORECASTING, [*arguments[2:], "--data.cache_dir", str(run_dir.parent / "cache")])
    soak.references["forecasting", 1] = run_dir
    return soak


@pytest.mark.processes
def test_a_killed_run_ends_as_the_one_that_nobody_killed(soak: Soak, tmp_path: Path) -> None:
    result = soak.run_case("forecasting", num_processes=1, num_workers=2, moments=["write"])
    assert result.identical, result.differences
    (kill,) = result.kills
    assert kill.reached.startswith("step ")
    write([result, CaseResult("captioning", 2, 0, kills=[Kill("step", 3)])], tmp_path / "soak.json", command="soak")
    written = json.loads((tmp_path / "soak.json").read_text())
    assert (written["kills"], written["identical"]) == (2, 1)
    assert written["cases"][0]["kills"][0]["moment"] == "write"


def _last_bit_of_a_weight(run_dir: Path) -> None:
    _change_checkpoint(run_dir, lambda stored: next(iter(stored["state_dict"].values())))


def _last_bit_of_the_optimiser(run_dir: Path) -> None:
    _change_checkpoint(run_dir, lambda stored: stored["optimizer_states"][0]["state"][0]["exp_avg"])


def _change_checkpoint(run_dir: Path, tensor_of: Any) -> None:
    path = run_dir / "checkpoints" / "last.ckpt"
    stored = torch.load(path, weights_only=True)
    tensor = tensor_of(stored).flatten()
    tensor[0] = torch.nextafter(tensor[0], torch.tensor(torch.inf))
    torch.save(stored, path)


def _a_logged_value(run_dir: Path) -> None:
    (path,) = run_dir.rglob("metrics.csv")
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("train/loss_piece")
    row = next(number for number, line in enumerate(lines) if number and line.split(",")[column])
    cells = lines[row].split(",")
    cells[column] += "1"
    path.write_text("\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")


def _a_logged_row_that_was_lost(run_dir: Path) -> None:
    (path,) = run_dir.rglob("metrics.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[4:]) + "\n")


def _a_metric(run_dir: Path) -> None:
    content = json.loads((run_dir / "metrics.json").read_text())
    content["metrics"]["mae"] *= 1 + 1e-15
    (run_dir / "metrics.json").write_text(json.dumps(content))


def _best_checkpoint_lost(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "best.ckpt").unlink()


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_last_bit_of_a_weight, "last.ckpt.state_dict"),
        (_last_bit_of_the_optimiser, "last.ckpt.optimizer_states"),
        (_a_logged_value, "train/loss_piece"),
        (_a_logged_row_that_was_lost, "missing"),
        (_a_metric, "metrics.json.metrics.mae"),
        (_best_checkpoint_lost, "best.ckpt is missing"),
    ],
)
def test_every_difference_is_named(soak: Soak, tmp_path: Path, tamper: Any, named: str) -> None:
    reference = soak.reference("forecasting", num_processes=1)
    copy = tmp_path / "run"
    shutil.copytree(reference, copy)
    assert differences_of_runs(copy, reference) == []
    tamper(copy)
    found = differences_of_runs(copy, reference)
    assert found
    assert all(named in line for line in found), found


def test_times_alone_may_differ() -> None:
    ours = {"fit_seconds": 3.0, "callbacks": {"Throughput": {"fit": 1.0, "wait": 2.0}}, "loss": 1.0, "steps": 3}
    theirs = {"fit_seconds": 9.0, "callbacks": {"Throughput": {"fit": 5.0, "wait": 7.0}}, "loss": 1.0, "steps": 3}
    assert differences(ours, theirs, where="") == []
    assert differences(ours, {**theirs, "steps": 4}, where="facts") == ["facts.steps: 3, not 4"]
    # A weight whose name reminds of a time is a weight.
    assert differences({"memory_wait": torch.zeros(2)}, {"memory_wait": torch.ones(2)}, where="state_dict")
    assert differences([float("nan")], [float("nan")], where="") == []


def test_a_step_logged_twice_is_that_of_the_resumed_run(tmp_path: Path) -> None:
    for version, text in (("version_9", "step,loss\n1,0.5\n2,0.4\n"), ("version_10", "step,loss\n2,0.3\n3,\n")):
        (tmp_path / "csv" / version).mkdir(parents=True)
        (tmp_path / "csv" / version / "metrics.csv").write_text(text)
    assert logged(tmp_path) == {"1:loss": "0.5", "2:loss": "0.3"}


def test_kills_are_dealt_evenly_over_cases_and_moments() -> None:
    dealt = dealt_moments(40, 16)
    assert {len(moments) for moments in dealt} == {2, 3}
    assert Counter(moment for moments in dealt for moment in moments) == {
        moment: 4 * MOMENTS.count(moment) for moment in MOMENTS
    }
    assert dealt_moments(2, 3) == [[MOMENTS[0]], [MOMENTS[1]], []]
