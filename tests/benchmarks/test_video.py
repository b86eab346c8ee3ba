"""The video benchmark at tiny sizes: both sides agree, all rows are there, nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.video import main
from benchmarks.video_clips import read_by_bare_loop, write_clip
from tests.shape_checks import unchecked


def test_it_runs_and_both_sides_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unchecked():
        assert main(["--small", "--pairs", "3", "--output", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["case"] for row in rows] == [
        "video.decode",
        "video.decode.demo",
        "video.decode.long",
        "video.cache",
        "video.stream",
        "video.stream.maps",
        "video.stream.demo",
        "video.convlstm_bf16",
    ]
    assert all(row["ours"] > 0 and row["rival"] > 0 for row in rows)
    assert "differ" not in capsys.readouterr().err


def test_a_row_that_is_measured_anew_leaves_the_others(tmp_path: Path) -> None:
    rows = [
        {
            "case": case,
            "ours": 1.0,
            "rival": 2.0,
            "rival_name": "none",
            "unit": "s",
            "ratio": 2.0,
            "spread": 0.0,
            "goal": None,
        }
        for case in ("video.cache", "video.decode", "video.stream")
    ]
    (tmp_path / "out.json").write_text(json.dumps(rows))
    main(["--small", "--pairs", "3", "--only", "video.decode", "--output", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["case"] for row in found] == [row["case"] for row in rows]
    assert [found[0], found[2]] == [rows[0], rows[2]]
    assert found[1]["rival_name"] == "bare PyAV loop"


def test_the_rival_reads_the_frames_that_are_asked_for(tmp_path: Path) -> None:
    """Frames of a wandering view are all different: a loop off by one would be seen."""
    clip = write_clip(tmp_path / "clip.mp4", num_frames=9, height=96, width=128, seed=0)
    every = read_by_bare_loop(clip, np.arange(9))
    assert len({frame.tobytes() for frame in every}) == 9
    np.testing.assert_array_equal(read_by_bare_loop(clip, np.array([2, 5])), every[[2, 5]])


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "video.speed"])
    assert "unknown cases ['video.speed']" in capsys.readouterr().err
