"""The scan from the command line: what it prints, writes and returns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data.video_io import read_manifest
from scripts.scan_videos import main
from tests.data.videos.video_files import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for number in range(3):
        write_video(folder / f"{number}.mp4", 5 + number)
    write_video(folder / "wide.mkv", 9, fps=25)
    (folder / "empty.avi").write_bytes(b"")
    (folder / "notes.txt").write_text("other\n")
    return folder


def test_a_folder_is_summed_up(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "manifest.jsonl"
    assert main(["--input", str(folder), "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{folder}: 5 videos, 4 well, 1 broken (every frame decoded)",
        "1 other files were left out, by their endings",
        "  empty.avi is empty (0 bytes).",
        "frames: 5 to 9, median 6.5",
        "in all: 27 frames, 0.00 hours",
        "frames a second: 10 (3), 25 (1)",
        "height x width: 48 x 64 (4)",
        f"Wrote {output}",
    ]
    assert "5/5" in printed.err
    assert [Path(result.path).name for result in read_manifest(output, folder=folder)] == [
        "0.mp4",
        "1.mp4",
        "2.mp4",
        "empty.avi",
        "wide.mkv",
    ]


def test_strict_and_quick(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--input", str(folder), "--output", str(tmp_path / "manifest.jsonl"), "--quick", "--strict"]
    assert main(given) == 1
    assert "(headers and first frames only)" in capsys.readouterr().out
    (folder / "empty.avi").unlink()
    assert main(given) == 0
    assert main([*given, "--num-workers", "2"]) == 0


def test_a_folder_of_broken_videos_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.mp4").write_bytes(b"")
    assert main(["--input", str(tmp_path), "--output", str(tmp_path / "manifest.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "25 videos, 0 well, 25 broken" in printed
    assert "  and 5 more" in printed
    assert "frames:" not in printed


def test_mistakes_are_said_in_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    for given, reason in [
        (["--input", str(tmp_path / "missing"), "--output", str(tmp_path / "m")], "There is no file or folder"),
        (["--input", str(tmp_path / "none"), "--output", str(tmp_path / "m")], "holds no video"),
        (["--input", str(folder / "0.mp4"), "--output", str(tmp_path / "m")], "is a file"),
        (["--input", str(folder), "--output", str(folder)], "is a folder. Name the file"),
        (["--input", str(folder), "--output", str(folder / "0.mp4" / "m")], "its folder cannot be made"),
        (["--input", str(folder), "--output", str(tmp_path / "m"), "--num-workers", "-1"], "cannot be negative"),
    ]:
        assert main(given) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert reason in printed.err
        assert printed.out == ""


@pytest.mark.processes
def test_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.scan_videos", "--input", str(tmp_path), "--output", str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert "holds no video" in done.stderr
    assert "Traceback" not in done.stderr
