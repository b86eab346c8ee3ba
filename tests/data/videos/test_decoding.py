"""Frames by their numbers are those of the whole file decoded, in every container, order, spacing and orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.video_io import FrameIndex, VideoProblem, index_frames, iterate_frames, probe, read_frames
from data.videos import decoding
from data.videos.files import OpenVideo
from tests.data.videos.video_files import numbered_frames, numbers_in, skip_start, write_video

NUM = 40
IRREGULAR = [3 + 0.1 * place + 0.04 * (place % 3) + (5.0 if place > 20 else 0.0) for place in range(NUM)]
"""Seconds: the first frame is not at 0, no two distances are alike, and there is a gap in the middle."""

HIDDEN_FRAMES = {"auto-alt-ref": "1", "lag-in-frames": "9"}

# Name -> how it is written, and the number that its first frame shows.
FILES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "b_frames.mp4": (lambda path: write_video(path, NUM), 0),
    "no_b_frames.mov": (lambda path: write_video(path, NUM, num_b_frames=0), 0),
    "open_gop.mp4": (lambda path: write_video(path, NUM, open_gop=True, num_b_frames=3), 0),
    "open_gop.mkv": (lambda path: write_video(path, NUM, open_gop=True, num_b_frames=3), 0),
    "irregular.mp4": (lambda path: write_video(path, NUM, times=IRREGULAR), 0),
    "irregular.mkv": (lambda path: write_video(path, NUM, times=IRREGULAR), 0),
    "edited.mp4": (lambda path: skip_start(write_video(path, NUM), 5), 5),
    "edited_far.mp4": (lambda path: skip_start(write_video(path, NUM), 17), 17),
    "with_sound.mp4": (lambda path: write_video(path, NUM, with_audio=True), 0),
    "fragmented.mp4": (lambda path: write_video(path, NUM, container_options={"movflags": "frag_keyframe+empty_moov"}), 0),
    "mpeg4.avi": (lambda path: write_video(path, NUM), 0),
    "mpeg4_b_frames.mp4": (lambda path: write_video(path, NUM, video_codec="mpeg4"), 0),
    "vp9.webm": (lambda path: write_video(path, NUM, video_codec="libvpx-vp9"), 0),
    "vp8.webm": (lambda path: write_video(path, NUM, video_codec="libvpx", options=HIDDEN_FRAMES), 0),
    "transport.ts": (lambda path: write_video(path, NUM), 0),
    "program.mpg": (lambda path: write_video(path, NUM, fps=25, video_codec="mpeg2video"), 0),
    "raw.h264": (lambda path: write_video(path, NUM, num_b_frames=0), 0),
    "a:b % #1 é.mp4": (lambda path: write_video(path, NUM), 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, (write, _) in FILES.items():
        try:
            write(folder / name)
        except av.codec.codec.UnknownCodecError:  # an FFmpeg without this encoder
            (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, folder: Path) -> Path:
    if not (folder / request.param).exists():
        pytest.skip("this FFmpeg cannot write it")
    return folder / str(request.param)


@pytest.fixture
def seek_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short clips are otherwise decoded from the start."""
    monkeypatch.setattr(decoding, "_FAR", 1)
    monkeypatch.setattr(decoding, "_LEAST_GAIN", 0)


def whole(file: Path) -> np.ndarray:
    with av.open(f"file:{file}") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_files_are_what_they_are_meant_to_be(file: Path) -> None:
    first = FILES[file.name][1]
    assert numbers_in(whole(file)) == list(range(first, NUM))


@pytest.mark.usefixtures("seek_often")
def test_any_frames_are_those_of_the_whole_file(file: Path) -> None:
    """Bit by bit: also where key frames are sought, where frames are stored in another order, and where an edit cuts some."""
    expected = whole(file)

    @settings(max_examples=6, deadline=None)
    @given(frames=st.lists(st.integers(0, len(expected) - 1), max_size=8))
    def check(frames: list[int]) -> None:
        assert np.array_equal(read_frames(file, np.array(frames, np.int64)), expected[frames])

    check()
    assert np.array_equal(read_frames(file, range(len(expected))), expected)
    for number in range(0, len(expected), 5):
        assert np.array_equal(read_frames(file, [number])[0], expected[number])


def test_an_index_that_is_kept_gives_the_same(file: Path) -> None:
    index = index_frames(file)
    assert (index is not None) == (file.suffix in {".mp4", ".mov", ".mkv", ".webm"} and file.name != "vp8.webm")
    if index is not None:
        assert index.num_frames == NUM - FILES[file.name][1]
        assert (np.diff(index.times) > 0).all()
    assert np.array_equal(read_frames(file, [30 - 17, 2], index=index), whole(file)[[13, 2]])


def test_frames_one_at_a_time(file: Path) -> None:
    found = list(iterate_frames(file))
    assert [number for number, _, _ in found] == list(range(NUM - FILES[file.name][1]))
    assert np.array_equal(np.stack([frame for _, _, frame in found]), whole(file))
    times = [time for _, time, _ in found]
    rate = 25 if file.suffix == ".mpg" else 10
    expected = IRREGULAR if "irregular" in file.name else [place / rate for place in range(NUM)]
    assert times == pytest.approx([each - expected[0] for each in expected[: len(times)]], abs=2e-3)


def test_probing(file: Path) -> None:
    info = probe(file)
    assert (info.num_frames, info.is_exact) == (NUM - FILES[file.name][1], True)
    assert (info.height, info.width, info.rotation) == (48, 64, 0)
    if "irregular" not in file.name:
        assert info.fps == pytest.approx(25 if file.suffix == ".mpg" else 10, rel=0.02)
        assert info.duration == pytest.approx(info.num_frames / info.fps, rel=0.1)


@pytest.mark.parametrize("num_threads", [0, 3])
def test_threads_change_nothing(folder: Path, num_threads: int) -> None:
    file = folder / "b_frames.mp4"
    assert np.array_equal(read_frames(file, [3, 31], num_threads=num_threads), whole(file)[[3, 31]])
    assert len(list(iterate_frames(file, num_threads=num_threads))) == NUM


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_frames_are_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    """Telephones store what their sensor sees, and a matrix that turns it."""
    file = write_video(tmp_path / "turned.mp4", 4, rotation=rotation, mirrored=mirrored)
    expected = np.rot90(whole(file), rotation // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if mirrored else expected
    found = read_frames(file, range(4))
    assert np.array_equal(found, expected)
    info = probe(file)
    assert (info.height, info.width) == found.shape[1:3]
    assert mirrored or info.rotation == rotation % 360
    assert all(np.array_equal(frame, expected[number]) for number, _, frame in iterate_frames(file))
    scaled = read_frames(file, [0], size=(24, 40))
    assert scaled.shape == (1, 24, 40, 3)


def test_arrays_belong_to_the_caller(folder: Path) -> None:
    """Torch takes only arrays that can be written to and have no negative strides."""
    frames = [frame for _, _, frame in iterate_frames(folder / "b_frames.mp4")]
    frames[0][:] = 7
    assert numbers_in(np.stack(frames[1:])) == list(range(1, NUM))
    found = read_frames(folder / "b_frames.mp4", [4, 4])
    found[0] = 0
    assert numbers_in(found) == [0, 4]
    assert all(each.flags.writeable and each.flags.c_contiguous for each in (*frames, found))


def test_scaling(folder: Path) -> None:
    file = folder / "b_frames.mp4"
    assert numbers_in(read_frames(file, [5, 9], size=(96, 32))) == [5, 9]
    assert read_frames(file, [5], short_side=24).shape == (1, 24, 32, 3)
    assert read_frames(file, [5], short_side=480).shape == (1, 48, 64, 3)
    assert next(iterate_frames(file, short_side=24))[2].shape == (24, 32, 3)
    with pytest.raises(ValueError, match="not both"):
        read_frames(file, [5], size=(4, 4), short_side=4)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        read_frames(file, [5], size=(0, 4))


def test_making_a_frame_smaller_averages_it(tmp_path: Path) -> None:
    """A scaler that picks pixels would see this grating as all black, or all white."""
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, :, ::2] = 255
    file = write_video(tmp_path / "grating.mp4", frames, options={"qp": "1"})
    assert np.abs(read_frames(file, [0], size=(16, 16)).astype(int) - 127).max() < 40


def test_no_frames_and_frames_that_are_none(folder: Path) -> None:
    file = folder / "b_frames.mp4"
    assert read_frames(file, []).shape == (0, 48, 64, 3)
    with pytest.raises(ValueError, match=r"numbered from 0, got -1 for .*b_frames\.mp4"):
        read_frames(file, [3, -1])
    for wrong in (np.array([1.0]), np.array([[1]]), np.array(1), np.array([True])):
        with pytest.raises(ValueError, match="whole numbers along one axis"):
            read_frames(file, wrong)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills up with the numbers of the frames that are decoded."""
    seen: list[int] = []
    check = OpenVideo._check_size

    def counted(self: OpenVideo, number: int, frame: Any) -> None:
        seen.append(number)
        check(self, number, frame)

    monkeypatch.setattr(OpenVideo, "_check_size", counted)
    return seen


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_long_stretches_are_passed_over(tmp_path: Path, ending: str, decoded: list[int]) -> None:
    """Sixteen frames of an hour do not cost an hour."""
    file = write_video(tmp_path / f"long.{ending}", 600, key_every=30)
    wanted = [599, 1, 300, 45]
    assert numbers_in(read_frames(file, wanted)) == wanted
    assert len(decoded) < 140
    decoded.clear()
    probe(file)
    assert len(decoded) == 1


def test_an_index_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    """That of another file, or of this one before it was replaced: frames are then counted from the start."""
    file = write_video(tmp_path / "long.mp4", 200, key_every=20)
    index = index_frames(file)
    assert index is not None
    shifted = FrameIndex(index.times[4:], index.keys[1:] - 4)
    other = FrameIndex(index.times + 7, index.keys)
    gap = FrameIndex(np.delete(index.times, 181), index.keys)
    for wrong in (other, gap):
        assert numbers_in(read_frames(file, [0, 190], index=wrong)) == [0, 190]
    assert shifted.key_before(3) == 0


def test_large_files_are_not_counted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours must not be read through to be opened; what is estimated says so."""
    monkeypatch.setattr(decoding, "MAX_COUNTED_BYTES", 100)
    monkeypatch.setattr(decoding, "MAX_COUNTED_ENTRIES", 30)
    for name, expected in [("b_frames.mp4", NUM), ("open_gop.mkv", NUM), ("mpeg4.avi", NUM), ("transport.ts", NUM)]:
        info = probe(folder / name)
        assert (info.num_frames, info.is_exact) == (expected, False), name
    # Eleven hours, by a frame at either end.
    info = probe(write_video(tmp_path / "long.mkv", 2, times=[0, 40_000]))
    assert not info.is_exact
    assert info.duration == pytest.approx(40_000, rel=1e-3)


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    file = write_video(tmp_path / "one.mp4", 1)
    info = probe(file)
    assert (info.num_frames, info.fps) == (1, 10)
    assert numbers_in(read_frames(file, [0, 0])) == [0, 0]
    assert [(number, time) for number, time, _ in iterate_frames(file)] == [(0, 0.0)]


def test_memory_does_not_grow_with_the_video(folder: Path) -> None:
    """A stream is a generator: nothing is decoded before it is asked for, and it may be left at any time."""
    stream = iterate_frames(folder / "b_frames.mp4")
    assert isinstance(stream, Iterator)
    assert next(stream)[0] == 0
    stream.close()  # type: ignore[attr-defined]


def test_a_wrong_ending_does_not_matter(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "really_mp4.avi"
    file.write_bytes((folder / "b_frames.mp4").read_bytes())
    assert probe(file).num_frames == NUM


def test_problems_survive_the_way_from_a_worker() -> None:
    import pickle

    problem = pickle.loads(pickle.dumps(VideoProblem("a.mp4", "is empty.")))
    assert (str(problem), problem.path, problem.reason) == ("a.mp4 is empty.", "a.mp4", "is empty.")


def test_the_helper_reads_its_own_numbers() -> None:
    assert numbers_in(numbered_frames(4096, 12, 16)) == list(range(4096))
