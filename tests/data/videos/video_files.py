"""Small video files of any kind, whole and broken, for tests.

A frame of `numbered_frames` carries its number in black and white blocks, which survive lossy codecs: `number_in` reads it
from a decoded frame, whatever the decoder in question thinks the frame's number is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

NUM_BITS = 12
"""Frames are numbered from 0 to 4,095."""
_ROWS, _COLUMNS = 3, 4
_DEPTH = 32
# As fine as any container's own: timestamps come back as they were given.
_TIME_BASE = Fraction(1, 90_000)


@functools.cache
def codec() -> str:
    """H.264 where the encoder is there, else MPEG-4."""
    try:
        return str(av.codec.Codec("libx264", "w").name)
    except av.error.FFmpegError:
        return "mpeg4"


def numbered_frames(num: int, height: int = 48, width: int = 64) -> UInt8[np.ndarray, "num height width 3"]:
    """Frames 0 to num - 1; each shows its number as 3 x 4 blocks, its lowest bit in the corner at the top left."""
    bits = np.arange(num)[:, None] >> np.arange(NUM_BITS) & 1
    grey = np.where(bits, 255 - _DEPTH, _DEPTH).astype(np.uint8).reshape(num, _ROWS, _COLUMNS)
    grey = grey[:, np.arange(height) * _ROWS // height][:, :, np.arange(width) * _COLUMNS // width]
    return np.repeat(grey[..., None], 3, axis=-1)


def number_in(frame: UInt8[np.ndarray, "height width 3"]) -> int:
    """The number that a decoded frame shows."""
    height, width, _ = frame.shape
    rows = (np.arange(_ROWS) * 2 + 1) * height // (2 * _ROWS)
    columns = (np.arange(_COLUMNS) * 2 + 1) * width // (2 * _COLUMNS)
    bits = frame[rows][:, columns].mean(axis=-1).ravel() > 127
    return int((bits << np.arange(NUM_BITS)).sum())


def numbers_in(frames: UInt8[np.ndarray, "num height width 3"]) -> list[int]:
    """The numbers that decoded frames show."""
    return [number_in(frame) for frame in frames]


def write_video(
    path: Path,
    frames: UInt8[np.ndarray, "num height width 3"] | int,
    *,
    fps: float | Fraction = 10,
    times: Sequence[float] | None = None,
    num_b_frames: int = 2,
    key_every: int = 12,
    open_gop: bool = False,
    rotation: float = 0,
    mirrored: bool = False,
    with_audio: bool = False,
    video_codec: str | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """A video file; its container follows from the ending (mp4, mov, avi, mkv, webm, ts, h264 ...).

    Args:
        path: the file; its folder is made.
        frames: RGB, even height and width; a number = so many of `numbered_frames`.
        fps: frames a second.
        times: seconds at which frames begin, for a variable rate; None = by `fps`.
        num_b_frames: frames between references, which are stored in another order than shown; for codecs that have them.
        key_every: at most so many frames from one key frame to the next; no other ones are placed.
        open_gop: whether frames before a key frame may refer to it and to what comes before (H.264).
        rotation: degrees counterclockwise that a player turns the picture by.
        mirrored: whether a player mirrors it, left to right, after turning it.
        with_audio: add a silent sound track.
        video_codec: FFmpeg's name of the encoder; None = `codec()`, and MPEG-4 in an avi.
        options: further ones for the encoder.
        container_options: ones for the container, such as {"movflags": "faststart"}.
    """
    frames = numbered_frames(frames) if isinstance(frames, int) else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    name = video_codec or ("mpeg4" if path.suffix == ".avi" else codec())
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(name, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        has_b_frames = name in {"libx264", "libx265", "mpeg2video"} or (name == "mpeg4" and path.suffix != ".avi")
        stream.options = {
            "g": str(key_every),
            "bf": str(num_b_frames if has_b_frames else 0),
            "threads": "1",
            **({"sc_threshold": "0", "flags": "-cgop" if open_gop else "+cgop"} if name == "libx264" else {}),
            **({"x264-params": f"open-gop={int(open_gop)}"} if name == "libx264" else {}),
            **(options or {}),
        }
        if times is not None:
            # Another time base would round the times to whole frames.
            stream.codec_context.time_base = _TIME_BASE
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound = container.add_stream("aac", rate=16_000, layout="mono") if with_audio else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is None:
                frame.pts, frame.time_base = number, 1 / rate
            else:
                frame.pts, frame.time_base = round(times[number] / _TIME_BASE), _TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _add_silence(container, sound, seconds=float(len(frames) / rate))
    return path


def _add_silence(container: av.container.OutputContainer, stream: av.AudioStream, *, seconds: float) -> None:
    for number in range(max(1, round(seconds * 16_000 / 1024))):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, number * 1024, Fraction(1, 16_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_audio(path: Path, *, seconds: float = 1.0) -> Path:
    """A file with a sound track and no video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        _add_silence(container, container.add_stream("aac", rate=16_000, layout="mono"), seconds=seconds)
    return path


def write_truncated(path: Path, *, num: int = 40, share: float = 0.5, whole: Path | None = None) -> Path:
    """The first part of a video file, as a download leaves it that broke off.

    Args:
        path: the file; of an mp4 the header comes first, so that the frames before the break can be read.
        num: frames that the header promises.
        share: of the bytes, what is there.
        whole: the file to cut; None = one of `numbered_frames`, with noise so that its frames have a size.
    """
    if whole is None:
        front = {"movflags": "faststart"} if path.suffix in {".mp4", ".mov"} else {}
        whole = write_video(path, noisy_frames(num), container_options=front)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def noisy_frames(num: int, height: int = 48, width: int = 64) -> UInt8[np.ndarray, "num height width 3"]:
    """`numbered_frames` with some noise: an encoder cannot make next to nothing of them."""
    noise = np.random.default_rng(0).integers(-24, 25, (num, height, width, 1))
    return (numbered_frames(num, height, width) + noise).clip(0, 255).astype(np.uint8)


def write_changing(path: Path, *, num: int = 10, sizes: Sequence[tuple[int, int]] = ((48, 64), (96, 128))) -> Path:
    """One stream whose pictures change their size: `num` frames of each (height, width); a .ts, .mpg or .h264 file."""
    content = b""
    for part, (height, width) in enumerate(sizes):
        frames = numbered_frames(num * len(sizes), height, width)[part * num : (part + 1) * num]
        content += write_video(path, frames, num_b_frames=0).read_bytes()
    path.write_bytes(content)
    return path


def skip_start(path: Path, num: int, *, fps: float = 10) -> Path:
    """Give an mp4 an edit list by which a player leaves out its first `num` frames; they stay in the file."""
    content = bytearray(path.read_bytes())
    scale_at = content.index(b"mdhd") + 4 + 4 + 8
    time_scale = int.from_bytes(content[scale_at : scale_at + 4], "big")
    movie_scale_at = content.index(b"mvhd") + 4 + 4 + 8
    movie_scale = int.from_bytes(content[movie_scale_at : movie_scale_at + 4], "big")
    at = content.index(b"elst") + 4 + 4 + 4
    duration, start = (int.from_bytes(content[at + skip : at + skip + 4], "big") for skip in (0, 4))
    content[at : at + 4] = (duration - round(num / fps * movie_scale)).to_bytes(4, "big")
    content[at + 4 : at + 8] = (start + round(num / fps * time_scale)).to_bytes(4, "big")
    path.write_bytes(content)
    return path
