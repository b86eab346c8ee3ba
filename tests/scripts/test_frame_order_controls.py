"""Controls of the order of frames: what is tested, where it is written, and what is recorded."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core.training.command.finished_run import TEST_FILE
from scripts import frame_order_controls as script

TOP1 = {"reversed": 0.5, "shuffled": 0.25}


class Commands:
    """Stands where `subprocess` does: keeps each command, and leaves what a test leaves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_with: list[list[str]] = []
        self.status = 0

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.run_with.append(command)
        if self.status:
            return subprocess.CompletedProcess(command, self.status)
        folder = self.root / after(command, "--run_dir")
        folder.mkdir()
        found = {"metrics": {"top1": TOP1[after(command, "--data.frame_order")] + 0.01 * len(self.run_with)}}
        (folder / TEST_FILE).write_text(json.dumps(found))
        return subprocess.CompletedProcess(command, 0)


def after(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    commands = Commands(tmp_path)
    monkeypatch.setattr(script, "subprocess", commands)
    for seed in (1, 2):
        checkpoints = tmp_path / "runs" / "results" / "video_classification" / "some" / f"seed{seed}" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "best.ckpt").touch()
    record = tmp_path / "results" / "video_classification" / "some.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"seeds": [1, 2], "metrics": {"top1": [0.6, 0.7]}}))
    return commands


def test_a_test_that_fails_is_a_line_and_nothing_is_recorded(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.status = 2
    monkeypatch.setattr("sys.argv", ["controls", "some", "--seeds", "1", "2"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 2
    assert "seed1 ended with exit status 2" in capsys.readouterr().err
    assert "frame_order" not in (commands.root / "results" / "video_classification" / "some.json").read_text()


def test_every_seed_is_tested_with_every_order_in_a_folder_of_its_own(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["controls", "some", "--seeds", "1", "2"])
    script.main()
    folder = "runs/results/video_classification/some"
    assert [after(command, "--ckpt_path") for command in commands.run_with] == [
        f"{folder}/seed{seed}/checkpoints/best.ckpt" for seed in (1, 2, 1, 2)
    ]
    assert [after(command, "--run_dir") for command in commands.run_with] == [
        f"{folder}/seed{seed}/{order}" for order in ("reversed", "shuffled") for seed in (1, 2)
    ]
    made = json.loads((commands.root / "results" / "video_classification" / "some.json").read_text())
    assert made["metrics"] == {"top1": [0.6, 0.7]}
    assert made["frame_order"]["command"] == "python -m scripts.frame_order_controls some --seeds 1 2"
    assert made["frame_order"]["reversed"] == {"top1": [0.51, 0.52]}
    assert made["frame_order"]["shuffled"]["top1"] == pytest.approx([0.28, 0.29])


@pytest.mark.parametrize(("seeds", "said"), [(["3"], "There is no"), (["1"], "is about the seeds")])
def test_runs_that_are_not_there_are_named(
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seeds: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["controls", "some", "--seeds", *seeds])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert said in capsys.readouterr().err
