"""The generated tables: from the records alone, and nothing else of a document changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import tables

RECORD: dict[str, Any] = {
    "command": "python -m scripts.results forecasting x --seeds 1 2",
    "commit": ["abc"],
    "seeds": [1, 2],
    "metrics": {"mse": [0.25, 0.75], "mae": [1.0, 1.0]},
    "baselines": {"seasonal_naive": {"mse": 2.0}},
    "duration_s": 120.0,
    "machine": "2 x CPU",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "results" / "forecasting").mkdir(parents=True)
    (tmp_path / "results" / "forecasting" / "x.json").write_text(json.dumps(RECORD))
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    row = {"case": "lstm.ragged", "ours": 1.5, "rival": 4.5, "unit": "ms", "ratio": 3.0, "spread": 0.1, "goal": 2.5}
    (tmp_path / "benchmarks" / "results" / "b.json").write_text(json.dumps([{**row, "rival_name": "packed"}]))
    line = {
        "precision": "float64",
        "cases": 4,
        "failed": 0,
        "worst": 4e-14,
        "allowed": 1e-10,
        "worst_case": "lstm: cell",
    }
    gpu = {"machine": "a GPU", "versions": {"torch": "2"}, "parity": [line], "rows": [{**row, "rival_name": "packed"}]}
    (tmp_path / "benchmarks" / "results" / "gpu_check.json").write_text(json.dumps(gpu))
    kills = [{"moment": "step"}, {"moment": "write"}, {"moment": "step"}]
    cases = [{"application": "captioning", "processes": 2, "workers": 0, "kills": kills, "identical": True}]
    soak = {"kills": 3, "identical": 3, "cases": cases, "command": "soak", "duration_s": 90, "machine": "2 x CPU"}
    (tmp_path / "benchmarks" / "results" / "soak.json").write_text(json.dumps(soak))
    (tmp_path / "results" / "translation").mkdir()
    translation = {**RECORD, "metrics": {"bleu_lc": [38.25, 38.75]}, "baselines": {"feed_forward": {"bleu_lc": 5.0}}}
    (tmp_path / "results" / "translation" / "y.json").write_text(json.dumps(translation))
    (tmp_path / "results" / "video_classification").mkdir()
    top1 = {"top1": [0.5, 0.75]}
    bootstrap = {"baseline": "feed_forward", "difference": 0.125, "low": -0.0125, "high": 0.25, "ours": [0.5, 0.75]}
    video = {**RECORD, "metrics": top1, "baselines": {"feed_forward": {"top1": 0.5}}, "paired_bootstrap": bootstrap}
    video["frame_order"] = {
        "command": "controls",
        "reversed": {"top1": [0.25, 0.5]},
        "shuffled": {"top1": [0.25, 0.25]},
    }
    (tmp_path / "results" / "video_classification" / "z.json").write_text(json.dumps(video))
    return tmp_path


def test_a_table_is_made_from_its_record(root: Path) -> None:
    text = "before\n<!-- table: forecasting -->\nstale\n<!-- end -->\nafter\n<!-- table: benchmarks -->\n<!-- end -->\n"
    made = tables.rewritten(text, document="doc")
    assert made.startswith("before\n")
    assert "\nafter\n" in made
    assert "stale" not in made
    assert "| x | **recurrent** | **0.5000** ± 0.3536 | **1.0000** ± 0.0000 |" in made
    assert "seasonal naive | 2.0000 |" in made
    assert "| y | **recurrent** | **38.50** ± 0.35 |  |" in tables.TABLES["translation"]()
    assert "| lstm.ragged | 1.5 | 4.5 | ms | **3.00** | 0.10 | 2.5 | packed |" in made
    assert "| captioning | 2 | 0 | 2 | 1 | yes |\n| **3 of 3** kills" in tables.TABLES["soak"]()
    assert tables.rewritten(made, document="doc") == made


def test_what_was_found_of_clips_later_is_in_their_table(root: Path) -> None:
    rows = tables.TABLES["video_classification"]().splitlines()
    assert "| | recurrent, frames reversed | 0.375 |  |  |  | 2 |" in rows
    assert "| | recurrent, frames shuffled | 0.250 |  |  |  | 2 |" in rows
    assert "| | more than feed forward (90 % of resampled clips) | +0.125 (-0.013 to +0.250) | | | | 2 |" in rows


def test_every_row_has_the_columns_of_its_head(root: Path) -> None:
    for make in tables.TABLES.values():
        lines = make().splitlines()
        assert len({line.count("|") for line in lines}) == 1, lines


def test_timings_on_a_gpu_have_no_goals_and_stand_with_its_parity(root: Path) -> None:
    _, _, row, parity, machine = tables.TABLES["gpu"]().splitlines()
    assert row == "| lstm.ragged | 1.5 | 4.5 | ms | **3.00** | 0.10 | packed |"
    assert "4 cases, 0 failed, worst 4e-14, allowed 1e-10" in parity
    assert "a GPU; PyTorch 2" in machine


def test_check_writes_nothing(root: Path) -> None:
    readme = root / "README.md"
    readme.write_text("<!-- table: forecasting -->\n<!-- end -->")
    before = readme.read_text()
    assert tables.main(["--check"]) == 1
    assert readme.read_text() == before
    assert tables.main([]) == 0
    assert readme.read_text() != before
    assert tables.main(["--check"]) == 0


@pytest.mark.parametrize("text", ["<!-- table: nobody -->\n<!-- end -->", "<!-- table: forecasting -->\nno end"])
def test_a_table_that_cannot_be_made_is_an_error(root: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"doc: expected one of"):
        tables.rewritten(text, document="doc")
