"""The share of the time that checkpoints take, by a clock on which every writing takes a second."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from benchmarks import soak_cost
from core.training.checkpoints.files import FORMAT, KEY


def finished_run(folder: Path, **checkpoint: object) -> Path:
    """Four epochs of two seconds."""
    (folder / "checkpoints").mkdir(parents=True)
    stored = {"format": FORMAT, "application": "forecasting", "position": {"epoch": 4}}
    torch.save({KEY: stored, "state_dict": {}}, folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.json").write_text(json.dumps({"fit_seconds": 8.0}))
    settings = {"every_n_steps": None, "every_minutes": 10.0, "every_n_epochs": 1, "monitor": None, "mode": "min"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"checkpoint": settings | checkpoint}))
    return folder


@pytest.mark.parametrize(
    ("checkpoint", "share"),
    [
        ({}, 100 * (1 / 600 + 1 / 2)),
        ({"every_n_epochs": 10}, 100 * (1 / 600 + 1 / 20)),
        ({"every_n_epochs": 10, "monitor": "val/loss"}, 100 * (1 / 600 + 1 / 2)),  # each validation may be better
        ({"every_minutes": 1.0}, 100 * (1 / 60 + 1 / 2)),
    ],
)
def test_the_share_follows_from_how_often_the_run_wrote(
    checkpoint: dict[str, object], share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_cost, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    row = soak_cost.cost_of("a", finished_run(tmp_path / "run", **checkpoint), num_writes=3)
    assert row.ours == pytest.approx(share)
    assert row.ratio == pytest.approx(2.0 / share)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("missing", ["config.yaml", "metrics.json"])
def test_a_run_that_is_not_finished_is_refused(missing: str, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=rf"has no {missing}: give the folder of a finished run"):
        soak_cost.cost_of("a", folder, num_writes=3)


def test_a_run_that_writes_by_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a run that writes them by the clock"):
        soak_cost.cost_of("a", finished_run(tmp_path / "run", every_n_steps=5), num_writes=3)
