"""Frames of a video file as arrays: what is in it, any frames by their numbers, or all of them one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from data.videos.files import IndexMismatch, OpenVideo, VideoProblem, open_video
from data.videos.indexing import FrameIndex, index_frames

MAX_COUNTED_BYTES = 64 * 2**20
"""Files up to this size have their frames counted by `probe`, by reading all packets: some 0.1 s at most."""
MAX_COUNTED_ENTRIES = 200_000
"""MP4 files with more frames than this (two hours) have their number from the header."""
MAX_CLAMPED_FRAMES, MAX_CLAMPED_SHARE = 3, 0.02
"""Frames, and share of those there are, that may be asked for behind the end: see `read_frames`."""
# Decoding so many frames that nobody wants takes longer than to look for a key frame nearer to the next wanted one.
_FAR = 64
_LEAST_GAIN = 16


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is in a video file, as `probe` finds it."""

    path: str
    num_frames: int
    """At least 1."""
    fps: float
    """Frames a second, on average over the video."""
    duration: float
    """Seconds."""
    height: int
    """Pixels, upright: as in the frames that are read."""
    width: int
    rotation: int
    """Degrees by which stored pictures are turned to be upright, counterclockwise: 0, 90, 180 or 270."""
    is_exact: bool
    """Whether frames were counted; False = their number is what the header says, or duration x frames a second."""


def probe(path: str | Path) -> VideoInfo:
    """Look into a file; one frame is decoded, the first.

    Frames are counted from the index of an MP4 up to `MAX_COUNTED_ENTRIES`, and by their packets in other files up to
    `MAX_COUNTED_BYTES`. Of larger ones the number is the header's or else an estimate, so that a file of ten hours takes no
    longer. Only decoding proves that all of them can be read (`scan`).

    Raises:
        VideoProblem: it is no video that can be read, or its first frame cannot.
    """
    with open_video(path) as video:
        next(video.frames())
        fps, (height, width), rotation = video.fps, video.shape, video.rotation
        end, start = video.promised_end, video.timestamp(video.first)
        # What containers without a duration in their header have for one is a guess; last choice.
        guess = (video.container.duration or 0) / 1e6
        counted, header = _counted(video), video.stream.frames
    num_frames = counted or header or round((end or guess) * fps) or 1
    duration = max(0.0, end - (start or 0.0)) if end else 0.0
    return VideoInfo(
        path=str(path),
        num_frames=num_frames,
        fps=fps,
        duration=duration or (num_frames / fps if counted else guess) or num_frames / fps,
        height=height,
        width=width,
        rotation=rotation,
        is_exact=counted > 0,
    )


def _counted(video: OpenVideo) -> int:
    """Frames that are shown, without decoding them; 0 where counting would take long."""
    promised = video.stream.frames
    entries = getattr(video.stream, "index_entries", ())  # not in older PyAV
    if video.format == "mov" and 0 < promised == len(entries):
        if promised > MAX_COUNTED_ENTRIES:
            return 0
        return sum(not entry.is_discard for entry in entries)
    if Path(video.path).stat().st_size > MAX_COUNTED_BYTES:
        return 0
    return _num_packets(video.path)


def _num_packets(path: str) -> int:
    from av.error import FFmpegError

    number = 0
    with open_video(path) as video:
        try:
            for packet in video.container.demux(video.stream):
                number += bool(packet.size) and not (packet.is_discard or video.is_damaged(packet))
        except FFmpegError:
            pass  # the frames up to a break are those there are
    return number


def read_frames(
    path: str | Path,
    frames: npt.ArrayLike,
    *,
    size: tuple[int, int] | None = None,
    short_side: int | None = None,
    num_threads: int = 1,
    index: FrameIndex | None = None,
) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """Read frames by their numbers, exactly those that decoding the whole file would give under the same numbers.

    Frames are numbered from 0 in the order of their presentation, whatever order, start or spacing their timestamps have. Each
    that is wanted is converted once; long stretches in between are passed over where key frames allow (MP4, Matroska).
    What is damaged in such a stretch is not seen; `scan` finds it.

    Numbers behind the end: the number in a header is often wrong by a few. Up to `MAX_CLAMPED_FRAMES` frames or
    `MAX_CLAMPED_SHARE` of the video behind the last frame, that one is given; further behind it, or where the video does
    not end there but breaks off, it is a problem.

    Args:
        path: the video.
        frames: whole numbers from 0, one axis; in any order, and more than once.
        size: height and width to scale to; None = as they are.
        short_side: instead of a size: pixels that the shorter side is scaled down to, with the same aspect ratio; smaller
            videos stay as they are.
        num_threads: threads that decode; 0 = as many as FFmpeg sees fit.
        index: what `index_frames` gave for this file; None = make it where it is needed.

    Returns:
        8-bit RGB, upright, in the order asked for; an array of its own.

    Raises:
        VideoProblem: the file cannot be read, or not up to a frame that is wanted.
        ValueError: the numbers are none, or negative; or size and short_side are both given.
    """
    numbers = np.asarray(frames)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise ValueError(
            f"Frames must be whole numbers along one axis, got {numbers.dtype} of the shape {numbers.shape} for {path}."
        )
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"Frames are numbered from 0, got {numbers.min()} for {path}.")
    needed, places = np.unique(numbers.astype(np.int64), return_inverse=True)
    try:
        pixels = _read(path, needed, _Scaling(size, short_side), num_threads, index, may_seek=True)
    except IndexMismatch:
        pixels = _read(path, needed, _Scaling(size, short_side), num_threads, None, may_seek=False)
    return pixels if np.array_equal(needed, numbers) else pixels[places]


def _read(
    path: str | Path,
    needed: npt.NDArray[np.int64],
    scaling: _Scaling,
    num_threads: int,
    index: FrameIndex | None,
    *,
    may_seek: bool,
) -> UInt8[np.ndarray, "num_frames height width 3"]:
    with open_video(path, num_threads=num_threads) as video:
        source = video.frames()
        number, frame = next(source)
        shape = scaling.shape(video.shape)
        pixels = np.empty((len(needed), *shape, 3), np.uint8)
        converted = -1
        for row, wanted in enumerate(needed.tolist()):
            if may_seek and wanted - number > _FAR:
                index = index or index_frames(path)
                may_seek = index is not None
                if index is not None and index.key_before(wanted) > number + _LEAST_GAIN:
                    source = video.frames_from(index, wanted)
                    number, frame = next(source)
            while number < wanted and (step := next(source, None)) is not None:
                number, frame = step
            if number < wanted:
                _check_clamped(video, number, wanted)
            pixels[row] = pixels[row - 1] if number == converted else video.pixels(frame, shape)
            converted = number
    return pixels


def _check_clamped(video: OpenVideo, last: int, wanted: int) -> None:
    if wanted - last > max(MAX_CLAMPED_FRAMES, int(MAX_CLAMPED_SHARE * (last + 1))):
        promised = f" (its header promises {video.stream.frames})" if video.stream.frames else ""
        raise VideoProblem(video.path, f"has {last + 1} frames{promised}, but frame {wanted} was asked for.")


def iterate_frames(
    path: str | Path, *, size: tuple[int, int] | None = None, short_side: int | None = None, num_threads: int = 1
) -> Iterator[tuple[int, float, UInt8[np.ndarray, "height width 3"]]]:
    """All frames one at a time, in memory that does not grow with the video; arguments as in `read_frames`.

    Yields:
        Number, seconds since the first frame, and the frame: 8-bit RGB, upright, an array of its own.

    Raises:
        VideoProblem: the file cannot be read; at a break, after the frames before it.
    """
    scaling = _Scaling(size, short_side)
    with open_video(path, num_threads=num_threads) as video:
        for number, frame in video.frames():
            yield number, video.time_of(number, frame), video.pixels(frame, scaling.shape(video.shape))


@dataclass(frozen=True)
class _Scaling:
    size: tuple[int, int] | None
    short_side: int | None

    def __post_init__(self) -> None:
        if self.size is not None and self.short_side is not None:
            raise ValueError(f"Give a size or a short_side, not both: got {self.size} and {self.short_side}.")
        if any(side < 1 for side in (*(self.size or ()), self.short_side or 1)):
            raise ValueError(f"Frames need at least 1 pixel, got size {self.size}, short_side {self.short_side}.")

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        if self.size is not None:
            return self.size
        if self.short_side is None or min(shape) <= self.short_side:
            return shape
        height, width = (max(1, round(side * self.short_side / min(shape))) for side in shape)
        return height, width
