"""Recorded results: what is run, what is run again, and what a follow-up starts from."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.training.command.finished_run import METRICS_FILE
from scripts import results

METRICS = {
    "metrics": {"cider_d": 0.5},
    "baselines": {},
    "parameters": 10,
    "device": "cpu",
    "fit_seconds": 60.0,
    "data_wait_share": 0.0,
}


class Commands:
    """Stands where `subprocess` does: keeps each command, and leaves in its run folder what a run leaves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_with: list[list[str]] = []
        self.status = 0
        self.finishes = True
        self.device = "cpu"

    def run(self, command: list[str], **_: Any) -> SimpleNamespace:
        self.run_with.append(command)
        folder = self.root / command[command.index("--run_dir") + 1]
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        if self.finishes:
            (folder / METRICS_FILE).write_text(json.dumps({**METRICS, "device": self.device}))
        return SimpleNamespace(returncode=self.status)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands(tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results.provenance, "commit", lambda: "abc")
    monkeypatch.setattr(results.provenance, "machine", lambda: "2 x CPU")
    monkeypatch.setattr(results, "subprocess", commands)
    (tmp_path / "configs" / "captioning").mkdir(parents=True)
    for name in ("first", "second"):
        (tmp_path / "configs" / "captioning" / f"{name}.yaml").write_text(f"name: {name}\n")
    (tmp_path / "results" / "captioning").mkdir(parents=True)
    return commands


def record(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["results", "captioning", *arguments])
    results.main()


def test_a_complete_seed_is_not_run_again(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    record("first", "--seeds", "1", "2", monkeypatch=monkeypatch)
    seeds = [command[command.index("--seed_everything") + 1] for command in commands.run_with]
    assert seeds == ["1", "2"]
    made = json.loads((commands.root / "results" / "captioning" / "first.json").read_text())
    assert made["seeds"] == [1, 2]
    assert made["metrics"] == {"cider_d": [0.5, 0.5]}
    assert made["command"] == "python -m scripts.results captioning first --seeds 1 2"


def test_a_seed_keeps_the_machine_that_it_was_run_on(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    assert "--trainer.accelerator" not in commands.run_with[-1]
    made = commands.root / "results" / "captioning" / "first.json"
    assert json.loads(made.read_text())["machine"] == "2 x CPU"
    commands.device = "A GPU"
    monkeypatch.setattr(results.provenance, "machine", lambda: "16 x CPU")
    monkeypatch.setattr(results, "version", lambda package: "0")
    record("first", "--seeds", "2", "--accelerator", "gpu", monkeypatch=monkeypatch)
    assert commands.run_with[-1][-4:] == ["--trainer.accelerator", "gpu", "--trainer.devices", "1"]
    assert json.loads(made.read_text())["machine"] == "A GPU; 16 x CPU"
    record("first", "--seeds", "1", "2", monkeypatch=monkeypatch)
    both = json.loads(made.read_text())
    assert both["machine"] == "2 x CPU and A GPU; 16 x CPU"
    assert both["versions"]["torch"] == f"0 and {version('torch')}"
    record("first", "--seeds", "1", "2", "--accelerator", "gpu", monkeypatch=monkeypatch)
    assert json.loads(made.read_text())["command"].endswith("first --seeds 1 2 --accelerator gpu")
    assert len(commands.run_with) == 2


@pytest.mark.parametrize(
    ("status", "finishes", "expected"), [(2, True, 2), (75, False, 75), (-9, False, 1), (0, False, 1)]
)
def test_a_run_that_has_not_come_to_its_end_is_no_result(
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    finishes: bool,
    expected: int,
) -> None:
    """And no traceback stands below what it has said itself. Figures of an earlier run are not taken for its own."""
    folder = commands.root / "runs" / "results" / "captioning" / "first" / "seed1"
    folder.mkdir(parents=True)
    (folder / METRICS_FILE).write_text(json.dumps(METRICS))
    commands.status, commands.finishes = status, finishes
    with pytest.raises(SystemExit) as ended:
        record("first", "--seeds", "1", monkeypatch=monkeypatch)
    assert ended.value.code == expected
    assert f"has not come to its end (status {status})" in capsys.readouterr().err
    assert not (commands.root / "results" / "captioning" / "first.json").exists()


def test_a_changed_config_is_not_taken_for_the_old_one(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    (commands.root / "configs" / "captioning" / "first.yaml").write_text("name: other\n")
    with pytest.raises(SystemExit, match="was made with another"):
        record("first", "--seeds", "1", monkeypatch=monkeypatch)


def test_an_interrupted_seed_is_resumed(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = commands.root / "runs" / "results" / "captioning" / "second" / "seed1" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").touch()
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    record("second", "--after", "first", "--seeds", "1", monkeypatch=monkeypatch)
    assert commands.run_with[-1][-2:] == ["--ckpt_path", "last"]
    assert "--init_from" not in commands.run_with[-1]


def test_a_follow_up_starts_from_the_same_seed(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    record("first", "--seeds", "1", "2", monkeypatch=monkeypatch)
    record("second", "--after", "first", "--seeds", "1", "2", monkeypatch=monkeypatch)
    origins = [command[command.index("--init_from") + 1] for command in commands.run_with[2:]]
    assert origins == [f"runs/results/captioning/first/seed{seed}/checkpoints/best.ckpt" for seed in (1, 2)]
    made = json.loads((commands.root / "results" / "captioning" / "second.json").read_text())
    assert made["command"] == "python -m scripts.results captioning second --after first --seeds 1 2"


def test_a_follow_up_needs_its_first_run(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="run that experiment first"):
        record("second", "--after", "first", "--seeds", "1", monkeypatch=monkeypatch)
    assert not commands.run_with


def test_a_follow_up_of_another_first_run_is_made_again(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    record("second", "--after", "first", "--seeds", "1", monkeypatch=monkeypatch)
    (commands.root / "runs" / "results" / "captioning" / "first" / "seed1" / "result.json").unlink()
    monkeypatch.setattr(results.provenance, "commit", lambda: "def")
    record("first", "--seeds", "1", monkeypatch=monkeypatch)
    with pytest.raises(SystemExit, match="after another"):
        record("second", "--after", "first", "--seeds", "1", monkeypatch=monkeypatch)


def test_unknown_experiments_are_told(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["third"], ["first", "--after", "third"]):
        with pytest.raises(SystemExit):
            record(*arguments, monkeypatch=monkeypatch)
        assert "no configs/captioning/third.yaml; known experiments: first, second" in capsys.readouterr().err
