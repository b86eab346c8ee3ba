"""Opening a video file, and its frames one after another, with an error that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from data.videos.turning import Turn

if TYPE_CHECKING:
    from data.videos.indexing import FrameIndex

# By FFmpeg's names. Those that are left out are no videos (pictures, text, sound) or make FFmpeg open further files, even
# from the network, that a file names (playlists, lists of parts).
_CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg",
    "gif", "nut", "mxf", "ivf", "h264", "hevc", "av1", "obu", "m4v", "dv", "rm", "wtv", "yuv4mpegpipe",
)  # fmt: skip
_OPTIONS = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
DEFAULT_FPS = 25.0
"""Frames a second where a file does not say (raw streams): what FFmpeg takes, too."""
# By FFmpeg's names too: those whose header tells how long the video is; others guess it from the number of bytes.
_WITH_DURATION = ("mov", "matroska", "avi", "flv", "asf")
# A file ends too early where its last frame ends so much before its header says. Less is usual: edits cut between frames.
_MISSING_SHARE, _MISSING_SECONDS = 0.1, 0.25


class VideoProblem(ValueError):  # noqa: N818  what is wrong is the video
    """A video cannot be read, or not up to the frame that was asked for; the message begins with its path."""

    def __init__(self, path: str | Path, reason: str) -> None:
        # Both as arguments: the problem must come whole through the pipe from a worker process.
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


class IndexMismatch(Exception):  # noqa: N818  no error: a reason to read without the index
    """Frames that follow a seek are not those of the index."""


@dataclass
class OpenVideo:
    """A file that is open, with its video stream; `open_video` makes it."""

    path: str
    container: Any
    """`av.container.InputContainer`."""
    stream: Any
    """`av.VideoStream`."""
    first: Any = None
    """The first frame (`av.VideoFrame`), once it has been decoded: what size, orientation and time are measured by."""

    def __post_init__(self) -> None:
        self._reformatter: Any = None
        self._turn = Turn()

    @property
    def format(self) -> str:
        """FFmpeg's first name of the container."""
        return str(self.container.format.name).split(",", maxsplit=1)[0]

    @property
    def fps(self) -> float:
        """Frames a second on average, by the header; `DEFAULT_FPS` where it has none."""
        rates = [self.stream.average_rate, self.stream.guessed_rate]
        if self.container.duration is None:
            rates.reverse()  # a raw stream: the average is FFmpeg's default, while the guess is read from the codec's header
        rate = next((rate for rate in rates if rate), None)
        return float(rate) if rate else DEFAULT_FPS

    @property
    def promised_end(self) -> float | None:
        """When the video ends by its header, in seconds on the scale of timestamps; None where it does not say."""
        if self.format not in _WITH_DURATION:
            return None
        if self.stream.duration and self.stream.time_base:
            return float((self.stream.duration + (self.stream.start_time or 0)) * self.stream.time_base)
        # One that holds for sound too may be the sound's.
        alone = len(self.container.streams) == 1
        return self.container.duration / 1e6 if alone and self.container.duration else None

    def time_of(self, number: int, frame: Any) -> float:
        """Seconds since the first frame; by number and rate, where frames have no timestamps (raw streams)."""
        seconds, start = self.timestamp(frame), self.timestamp(self.first)
        return number / self.fps if seconds is None or start is None else seconds - start

    def timestamp(self, frame: Any) -> float | None:
        """When a frame is shown by its timestamp, seconds; None where it has none."""
        # Not frame.time: frames that waited in the decoder at a break come without a time base.
        return None if frame.pts is None else float(frame.pts * self.stream.time_base)

    def is_damaged(self, packet: Any) -> bool:
        """Whether a packet is known to lack a part, without decoding it."""
        # In a transport stream the mark also stands where two whole ones were joined.
        return bool(packet.is_corrupt and packet.size and self.format != "mpegts")

    def frames(self) -> Iterator[tuple[int, Any]]:
        """All frames with their numbers, in the order of their presentation; for a file that has just been opened.

        What cannot be decoded before the first key frame is passed over, as players do: a video that was cut out of another
        one often begins between two. From then on nothing is.

        Raises:
            VideoProblem: at a break, when all frames before it have been given out: damaged or missing data, pictures of
                another size, or an end long before that of the header. Also where there is no frame at all.
        """
        number, frame = -1, None
        for number, frame in enumerate(self._decoded(0)):
            self._check_size(number, frame)
            yield number, frame
        if frame is None:
            raise VideoProblem(self.path, "has a video stream, but no frame in it.")
        self._check_end(number, frame)

    def frames_from(self, index: FrameIndex, number: int) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers from the last key frame at or before a number on; the first frame must be known.

        Raises:
            VideoProblem: as in `frames`.
            IndexMismatch: the frames are not those of the index.
        """
        key = index.key_before(number)
        self.container.seek(int(index.times[key]), stream=self.stream, backward=True)
        # A container may place us at an earlier key frame, but a later one is of no use.
        found, frame = -1, None
        for frame in self._decoded(key, leading=False):
            found = index.number_at(frame.pts) if found < 0 else found + 1
            if not 0 <= found < len(index.times) or frame.pts != index.times[found] or (key >= 0 and found > key):
                raise IndexMismatch
            key = -1
            self._check_size(found, frame)
            yield found, frame
        if frame is None:
            raise IndexMismatch
        self._check_end(found, frame)

    def _decoded(self, number: int, *, leading: bool = True) -> Iterator[Any]:
        """Frames as the decoder gives them, up to the end or a break.

        Args:
            number: of the first one, for messages.
            leading: whether to give out frames that are shown before the first key frame; behind a seek they are not whole,
                because they refer to what has been passed over.
        """
        from av.error import FFmpegError

        started, start, lost, reason = False, None, None, ""
        try:
            for packet in self.container.demux(self.stream):
                if self.is_damaged(packet):
                    frames, reason = [], "a part of its data is missing"
                else:
                    try:
                        frames, reason = packet.decode(), ""
                    except FFmpegError as error:
                        frames, reason = [], _reason(error)
                    if not started and packet.is_keyframe and packet.size and not reason:
                        started, start = True, packet.pts
                for frame in frames:
                    if leading or frame.pts is None or start is None or frame.pts >= start:
                        yield frame
                        number += 1
                if reason and started:
                    lost = packet.pts
                    break
        except FFmpegError as error:  # of the container, not of a picture
            reason = _reason(error)
        if not reason:
            return
        for frame in self._left_in_decoder():
            # What is shown behind the lost frame would take its number.
            if lost is None or frame.pts is None or frame.pts < lost:
                yield frame
                number += 1
        if number == 0:
            raise VideoProblem(self.path, f"is damaged: no frame in it can be decoded ({reason}).")
        raise VideoProblem(
            self.path, f"is cut off or damaged: the last frame that can be read is {number - 1} ({reason})."
        )

    def _left_in_decoder(self) -> list[Any]:
        """Frames before a break that wait for others, behind which they would have come."""
        from av.error import FFmpegError

        try:
            return list(self.stream.codec_context.decode(None))
        except FFmpegError:
            return []

    def _check_size(self, number: int, frame: Any) -> None:
        if self.first is None:
            self.first = frame
            self._turn = Turn.of(frame)
        before, now = ((each.height, each.width) for each in (self.first, frame))
        if before != now:
            raise VideoProblem(
                self.path,
                f"changes its size at frame {number} from {before[0]} x {before[1]} to {now[0]} x {now[1]} pixels (height x "
                "width). Cut it there, or bring it to one size.",
            )

    def _check_end(self, number: int, last: Any) -> None:
        promised, start, end = self.promised_end, self.timestamp(self.first), self.timestamp(last)
        if promised is None or start is None or end is None:
            return
        end += max(float((last.duration or 0) * self.stream.time_base), 1 / self.fps)
        if promised - end > max(_MISSING_SECONDS, _MISSING_SHARE * (promised - start)):
            raise VideoProblem(
                self.path,
                f"is cut off: the last frame that can be read is {number}, which ends at {end:.2f} s, but its header promises "
                f"{promised:.2f} s.",
            )

    @property
    def rotation(self) -> int:
        """Degrees that frames are turned by, counterclockwise: 0, 90, 180 or 270; the first frame must be known."""
        return self._turn.rotation

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of frames as they are looked at; the first frame must be known."""
        height, width = self.first.height, self.first.width
        return (width, height) if self._turn.transposed else (height, width)

    def pixels(self, frame: Any, shape: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
        """A frame as it is meant to be looked at: 8-bit RGB, upright, scaled to a height and width."""
        from av.video.reformatter import VideoReformatter

        if self._reformatter is None:
            # One for all frames: setting up a conversion takes longer than converting a small frame.
            self._reformatter = VideoReformatter()
        height, width = reversed(shape) if self._turn.transposed else shape
        # Bilinear as in FFmpeg: where it makes pictures smaller, every pixel counts (no aliasing).
        converted = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation="BILINEAR")
        return self._turn.upright(converted.to_ndarray())


@contextmanager
def open_video(path: str | Path, *, num_threads: int = 1) -> Iterator[OpenVideo]:
    """Open a file by what is in it, whatever its ending is.

    Args:
        path: a file on a disk; names of other kinds (a URL) are taken for files, too.
        num_threads: threads that decode; 0 = as many as FFmpeg sees fit. Pixels do not depend on it.

    Raises:
        VideoProblem: it is missing, empty, no video, or its header is broken.
    """
    import av

    _check_file(path)
    try:
        # A name with a colon is no protocol.
        container = av.open(f"file:{os.fspath(path)}", options=dict(_OPTIONS), **_any_names())
    except (av.error.FFmpegError, OSError) as error:
        raise VideoProblem(path, _why_not_opened(path, error)) from None
    with container:
        yield OpenVideo(str(path), container, _video_stream(path, container, num_threads))


def _any_names() -> dict[str, Any]:
    """Names of places and people in any encoding are no reason to stop; from PyAV 19 on they are none by themselves."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _check_file(path: str | Path) -> None:
    try:
        if os.path.isdir(path):
            raise VideoProblem(path, "is a folder, but must be a video file.")
        with open(path, "rb") as file:
            if not file.read(1):
                raise VideoProblem(path, "is empty (0 bytes).")
    except OSError as error:
        raise VideoProblem(path, f"cannot be read: {error.strerror or error}.") from error


def _why_not_opened(path: str | Path, error: Exception) -> str:
    import av

    if not isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError)):
        return f"cannot be opened: {_reason(error)}."
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] in {b"ftyp", b"mdat", b"wide"}:
        return "is an MP4 without its index (moov): it was cut off, or never written to its end."
    return "is no video, or its header is broken: it is in none of the containers that are known (mp4, mkv, avi, webm ...)."


def _video_stream(path: str | Path, container: Any, num_threads: int) -> Any:
    from av.stream import Disposition

    # The cover of a piece of music is a stream of one picture, too.
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        others = sorted({each.type for each in container.streams})
        raise VideoProblem(path, f"holds no video, but only {' and '.join(others) or 'a header'}.")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoProblem(path, "is coded in a way that this FFmpeg does not know.")
    stream.thread_type = "NONE" if num_threads == 1 else "AUTO"
    stream.thread_count = num_threads
    return stream


def _reason(error: Exception) -> str:
    """What FFmpeg says, without its error number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")
