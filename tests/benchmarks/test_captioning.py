"""The captioning benchmark at tiny sizes: both sides agree, all rows are there, nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.captioning import main
from tests.shape_checks import unchecked


def test_it_runs_and_both_sides_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unchecked():
        assert main(["--small", "--pairs", "3", "--output", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["case"] for row in rows] == [
        "captioning.cache",
        "captioning.step",
        "captioning.step.flickr8k",
        "captioning.beam",
        "captioning.beam.demo",
    ]
    assert all(row["ours"] > 0 and row["rival"] > 0 for row in rows)
    assert "differs" not in capsys.readouterr().err


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "captioning.speed"])
    assert "unknown cases ['captioning.speed']" in capsys.readouterr().err
