"""Which frame is where in a file: found from its packets, without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from data.videos.files import open_video

# Where every packet is a frame, has a timestamp, and a seek ends at the key frame asked for or before it. Of others (transport
# streams, raw streams, AVI) frames are counted from the start instead.
_SEEKABLE = ("mov", "matroska")


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Timestamps of all frames, which make reading from the middle of a long file quick and still frame-accurate."""

    times: Int64[np.ndarray, "num_frames"]
    """Timestamps in the order of presentation, strictly ascending, in the time base of the stream."""
    keys: Int64[np.ndarray, "num_keys"]
    """Numbers of the frames at which decoding can begin, ascending; the first is 0, or all are behind what an edit cuts."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    def key_before(self, number: int) -> int:
        """The last frame at or before a number at which decoding can begin; 0 where none is known."""
        place = int(np.searchsorted(self.keys, number, side="right")) - 1
        return int(self.keys[place]) if place >= 0 else 0

    def number_at(self, time: int | None) -> int:
        """The frame with this timestamp, -1 if there is none."""
        if time is None:
            return -1
        place = int(np.searchsorted(self.times, time))
        return place if place < len(self.times) and self.times[place] == time else -1


def index_frames(path: str | Path) -> FrameIndex | None:
    """Read all packets of a file, decoding none; None for files whose frames cannot be told by their timestamps.

    It takes as long as reading the file from the disk: a few milliseconds for a clip, seconds a gigabyte. `read_frames` does
    it by itself where it pays; a data set that reads long files again and again may keep the index instead.

    Raises:
        VideoProblem: the file cannot be opened.
    """
    from av.error import FFmpegError

    times: list[int] = []
    keys: list[int] = []
    with open_video(path) as video:
        if (
            video.format not in _SEEKABLE or video.stream.codec_context.name == "vp8"
        ):  # VP8 has packets that are not shown
            return None
        try:
            for packet in video.container.demux(video.stream):
                if not packet.size:
                    continue
                if packet.is_corrupt:
                    break  # what follows cannot be read anyway
                if packet.pts is None or not (keys or packet.is_keyframe):
                    return None
                if packet.is_keyframe:
                    keys.append(packet.pts)
                if not packet.is_discard:  # an edit list cuts it: decoded, but not shown
                    times.append(packet.pts)
        except FFmpegError:
            pass  # a break: `read_frames` meets it again, and says so
    ordered = np.unique(np.array(times, np.int64))
    if not times or len(ordered) != len(times):
        return None
    return FrameIndex(
        ordered, np.intersect1d(ordered, np.array(keys, np.int64), return_indices=True)[1].astype(np.int64)
    )
