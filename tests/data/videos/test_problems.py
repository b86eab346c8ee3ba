"""Files that cannot be read, or not to their end: each is a `VideoProblem` that begins with the path, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.video_io import VideoProblem, index_frames, iterate_frames, probe, read_frames
from tests.data.videos.video_files import (
    noisy_frames,
    number_in,
    numbers_in,
    write_audio,
    write_changing,
    write_truncated,
    write_video,
)


def until_break(file: Path) -> tuple[list[int], str]:
    """The numbers that frames show up to the problem, and what it says behind the path."""
    seen = []
    with pytest.raises(VideoProblem) as caught:
        seen.extend(number_in(frame) for _, _, frame in iterate_frames(file))
    assert str(caught.value).startswith(f"{file} ")
    return seen, caught.value.reason


def cover_art(file: Path) -> None:
    """Music with a picture: to FFmpeg, a stream of video."""
    with av.open(str(file), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


def unfinished(file: Path) -> None:
    """An mp4 whose writer was killed: its index would have come last."""
    file.write_bytes(write_video(file, 8).read_bytes()[:300])


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.mp4": (lambda file: file.write_bytes(b""), r"is empty \(0 bytes\)"),
    "sound.mp4": (write_audio, "holds no video, but only audio"),
    "text.mp4": (lambda file: file.write_text("no video\n" * 99), "is no video, or its header is broken"),
    "picture.mp4": (lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200)), "is no video"),
    # A list of other files, which FFmpeg would open, even from the network.
    "list.mp4": (lambda file: file.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n"), "is no video"),
    "parts.mp4": (lambda file: file.write_text("ffconcat version 1.0\nfile /etc/passwd\n"), "is no video"),
    "unfinished.mp4": (unfinished, r"is an MP4 without its index \(moov\)"),
    "folder.mp4": (lambda file: file.mkdir(), "is a folder"),
    "missing.mp4": (lambda _: None, "cannot be read: No such file"),
    "http://localhost:1/a.mp4": (lambda _: None, "cannot be read: No such file"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    make, reason = UNREADABLE[name]
    file = tmp_path / name if "//" not in name else Path(name)
    make(file)
    for read in (probe, index_frames, lambda path: read_frames(path, [0]), lambda path: next(iterate_frames(path))):
        with pytest.raises(VideoProblem, match=reason) as caught:
            read(file)
        assert str(caught.value).startswith(f"{file} ")


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    cover_art(tmp_path / "music.mp4")
    with pytest.raises(VideoProblem, match="holds no video"):
        probe(tmp_path / "music.mp4")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(VideoProblem, match="cannot be read: Permission denied"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi"])
def test_frames_before_a_cut_can_be_read(tmp_path: Path, name: str) -> None:
    file = write_truncated(tmp_path / name, num=60, share=0.6)
    seen, reason = until_break(file)
    assert reason.startswith("is cut off")
    # A cluster of Matroska may end without a trace of the frame that is missing before the very last.
    complete = len(seen) - file.name.endswith("mkv")
    assert seen[:complete] == list(range(complete))
    assert f"the last frame that can be read is {len(seen) - 1}" in reason
    last = len(seen) - 1
    assert numbers_in(read_frames(file, [last, 1])) == [seen[last], 1]
    # No repeating of the last frame here: this is not where the video ends.
    for behind in (last + 1, last + 2, 59, 10_000):
        with pytest.raises(VideoProblem, match="is cut off"):
            read_frames(file, [0, behind])
    assert probe(file).num_frames > 0


def test_a_cut_between_two_packets_is_seen_by_the_time(tmp_path: Path) -> None:
    """Then no packet is incomplete, and the decoder has nothing to complain of."""
    file = write_video(tmp_path / "whole.mp4", noisy_frames(40), container_options={"movflags": "faststart"})
    with av.open(str(file)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    file.write_bytes(file.read_bytes()[: ends[19]])
    seen, reason = until_break(file)
    assert 16 <= len(seen) <= 20
    assert reason.startswith("is cut off")


def test_a_change_of_size(tmp_path: Path) -> None:
    for ending in ("h264", "ts"):
        file = write_changing(tmp_path / f"changing.{ending}", num=10)
        seen, reason = until_break(file)
        assert seen == list(range(10))
        assert reason.startswith("changes its size at frame 10 from 48 x 64 to 96 x 128 pixels (height x width)")
        assert numbers_in(read_frames(file, [9, 0])) == [9, 0]
        with pytest.raises(VideoProblem, match="changes its size at frame 10"):
            read_frames(file, [10])
        assert (probe(file).height, probe(file).width) == (48, 64)


def test_numbers_just_behind_the_end_are_the_last_frame(tmp_path: Path) -> None:
    """Headers are often wrong by a few; by more, something else is wrong."""
    file = write_video(tmp_path / "short.mp4", 40)
    assert numbers_in(read_frames(file, [38, 39, 40, 42])) == [38, 39, 39, 39]
    assert numbers_in(read_frames(file, [42])) == [39]
    with pytest.raises(VideoProblem, match=r"has 40 frames .*but frame 43 was asked for"):
        read_frames(file, [0, 43])
    longer = write_video(tmp_path / "longer.mkv", 400, key_every=50)
    assert numbers_in(read_frames(longer, [407])) == [399]
    with pytest.raises(VideoProblem, match=r"has 400 frames, but frame 408 was asked for"):
        read_frames(longer, [408])


def test_what_cannot_be_decoded_before_the_first_key_frame_is_passed_over(tmp_path: Path) -> None:
    """Cut out of a longer video without encoding again, as many collections of clips are."""
    whole = write_video(tmp_path / "whole.ts", noisy_frames(40), key_every=12, num_b_frames=0)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        with av.open(str(tmp_path / "cut.ts"), "w") as output:
            stream = output.add_stream_from_template(container.streams.video[0])
            for packet in packets[7:]:
                packet.stream = stream
                output.mux(packet)
    found = [number_in(frame) for _, _, frame in iterate_frames(tmp_path / "cut.ts")]
    assert found == list(range(12, 40))
    assert numbers_in(read_frames(tmp_path / "cut.ts", [0, 5])) == [12, 17]


@pytest.mark.parametrize("name", ["some.mp4", "some.avi", "some.mkv", "some.ts"])
def test_whatever_bytes_are_broken_nothing_else_leaks(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Neither errors of FFmpeg, nor frames of another shape, nor warnings."""
    file = tmp_path_factory.mktemp("broken") / name
    front = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = write_video(file, noisy_frames(12), container_options=front).read_bytes()

    @settings(max_examples=25, deadline=None)
    @given(
        places=st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8),
        end=st.just(len(whole)) | st.integers(1, len(whole)),
    )
    def check(places: list[tuple[int, int]], end: int) -> None:
        content = bytearray(whole)
        for place, value in places:
            content[place] = value
        file.write_bytes(content[:end])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for read in (
                lambda: probe(file),
                lambda: read_frames(file, [0, 11, 5]),
                lambda: [frame for _, _, frame in iterate_frames(file, size=(8, 8))],
            ):
                try:
                    read()
                except VideoProblem as problem:
                    assert str(problem).startswith(f"{file} ")  # noqa: PT017  most raise, some do not

    check()
