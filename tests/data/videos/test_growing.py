"""Frames as they come: those of a file, and pictures of a folder that grows meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.videos.growing import coming_frames
from tests.data.videos.video_files import number_in, numbered_frames, write_video


class Camera:
    """Puts a picture into a folder at every look into it, by a clock of its own."""

    def __init__(self, folder: Path, *, names: list[str]) -> None:
        self.folder = folder
        self.names = names
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.names:
            name = self.names.pop(0)
            Image.fromarray(numbered_frames(20)[int(Path(name).stem)]).save(self.folder / name)


def test_frames_of_a_file_come_in_order_with_their_times(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(6), fps=10)
    frames = list(coming_frames(tmp_path / "a.mp4"))
    assert [frame.number for frame in frames] == list(range(6))
    assert [number_in(frame.pixels) for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(6) / 10)


def test_a_folder_that_grows_is_read_to_its_end(tmp_path: Path) -> None:
    camera = Camera(tmp_path, names=["02.png", "04.png", "03.png", "11.png"])
    Image.fromarray(numbered_frames(20)[1]).save(tmp_path / "01.png")
    (tmp_path / "notes.txt").write_text("no picture")
    frames = list(coming_frames(tmp_path, wait=1.0, clock=camera.clock, sleep=camera.sleep))
    assert [frame.name for frame in frames] == [
        "01.png",
        "02.png",
        "04.png",
        "11.png",
    ]  # 03 came when its place was past
    assert [number_in(frame.pixels) for frame in frames] == [1, 2, 4, 11]
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert 1.0 <= camera.now < 1.5  # a second after the last one


def test_a_picture_that_is_half_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(numbered_frames(20)[7]).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    file = tmp_path / "07.png"
    file.write_bytes(content[: len(content) // 2])

    def finish(_: float) -> None:
        file.write_bytes(content)

    (frame,) = coming_frames(tmp_path, wait=0.1, sleep=finish)
    assert number_in(frame.pixels) == 7


def test_what_never_becomes_whole_and_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not there"):
        list(coming_frames(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no picture, and none came within 0\.0 seconds"):
        list(coming_frames(tmp_path))
    (tmp_path / "01.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"01\.png is empty"):
        list(coming_frames(tmp_path))
