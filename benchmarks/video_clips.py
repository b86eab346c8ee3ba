"""Clips made to measure on, and how frames are usually read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

CODECS: tuple[Literal["libx264", "mpeg4"], ...] = ("libx264", "mpeg4")
FRAMES_A_SECOND = 25


def write_clip(path: Path, *, num_frames: int, height: int, width: int, seed: int) -> Path:
    """A clip as cameras make them: smooth, moving, most frames coded by what they differ by from others.

    Args:
        path: an mp4 file; H.264, or MPEG-4 where FFmpeg was built without it.
        num_frames: so many frames, 25 a second.
        height: pixels, even.
        width: pixels, even.
        seed: of what it shows.
    """
    import av
    from PIL import Image

    # Smooth, as photographs are: noise would not compress.
    coarse = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    codec = next(name for name in CODECS if name in av.codecs_available)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(num_frames):
            # The view wanders over the scene and comes back.
            top = round(height * (1 + np.sin(number / 17)) / 2)
            left = round(width * (1 + np.cos(number / 13)) / 2)
            view = np.ascontiguousarray(scene[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())
    return path


def read_by_bare_loop(
    path: Path, frames: Int64[np.ndarray, "num_frames"]
) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """What a loop over PyAV's `decode` gives of ascending frames; it ends with the last one, on one thread."""
    import av

    wanted = set(frames.tolist())
    last = max(wanted)
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
            if number == last:
                break
    return np.stack(found)
