"""Short clips of a sprite that visits four places: the embedded set `demo/motions`, for video classification.

A class is the order of the visits and nothing else: two laps over the corners of a square and back to the start, each lap
clockwise, anticlockwise or crosswise, which makes nine classes. Clips are made in *takes*: the sprite, the place where it
starts, and how long and how exactly it stands there in each visit are drawn once, and shown in the order of each class.
The nine clips of a take have the same frames, the same one first and last. It follows, without any training:

- What looks at the frames in no order (their mean, a bag of them, how many there are), or only at the first or the last
  one, says the same of all nine, so it is right on exactly one in nine of each part.
- What looks at the bag of the moves from place to place is right on two in three at best. `clockwise_then_crosswise` and
  `crosswise_then_clockwise` have the same moves, as any two classes that change their laps over; only the three classes
  of two equal laps have moves of their own. No single move tells a class: each is part of five classes or more.

Enough to tell the class is the first move of each lap, and which of them came first: where the sprite goes from its start,
and where after its return there. A single frame says something only together with its time, as each place is visited at
other times in other classes.

Files tell nothing. Every frame is coded by itself and at one quality, so that none bears a trace of the one before, and
the files of a take are equally large.

Mirrored, a clip is of another class or of none; leaving out frames can leave out a visit.
`data/demo/README.md` describes the set.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.demo.motions_drawing import (
    FRAME_SIZE,
    MAX_SHAKE,
    SHAPES,
    Point,
    Source,
    draw_background,
    draw_frame,
    sample_source,
)
from data.demo.motions_orders import MOTIONS, STARTS, Visit, visits_of

VERSION = 1
"""Raised with every change of the clips, so that no cache serves those of before."""

NUM_SOURCES = {"train": 24, "validation": 4, "test": 6}
"""Groups of each part; none is in two parts."""
NUM_TAKES = 4
"""Of each source, and so its clips of each class; as many from each starting place."""
STAYS = (1, 2)
"""For how many frames the sprite may stand at a place, each equally likely."""
FRAME_RATE = 12
"""Frames a second."""
SPLIT_FILE = "split1.csv"
VIDEOS_FOLDER = "videos"
COLUMNS = ("class", "file", "group", "subset")
_SEED = 0

Frames = list[NDArray[np.uint8]]
"""Each (height, width, 3), RGB."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """What nine clips have in common, one of each class."""

    source: Source
    """What there is to see."""
    number: int
    """Among the takes of the source."""
    start: int
    """The place where both laps begin and where the sprite ends."""
    stays: dict[Visit, tuple[Point, ...]]
    """Of each visit its frames: how far the sprite is off its place, in pixels."""

    @property
    def num_frames(self) -> int:
        """Of each of the nine clips."""
        return sum(map(len, self.stays.values()))

    def clips(self) -> dict[str, Frames]:
        """Class -> its clip."""
        background = draw_background(self.source)
        drawn = {
            visit: [draw_frame(self.source, background, place=visit.place, shake=shake) for shake in shakes]
            for visit, shakes in self.stays.items()
        }
        return {
            motion: [frame for visit in visits_of(motion, start=self.start) for frame in drawn[visit]]
            for motion in MOTIONS
        }

    def file(self, motion: str) -> str:
        """Name of the clip of a class."""
        return f"{motion}_{self.source.name}_{self.number}.mp4"


def generate() -> dict[str, list[Take]]:
    """The takes of `train`, `validation` and `test`, the same in every process; each is a clip of every class."""
    generator = random.Random(_SEED)
    shapes = list(SHAPES)
    takes: dict[str, list[Take]] = {}
    at = 0
    for part, num_sources in NUM_SOURCES.items():
        takes[part] = []
        for _ in range(num_sources):
            # In turn: the test shows each shape in one source.
            source = sample_source(f"source{at:02}", shapes[at % len(shapes)], generator)
            takes[part] += _takes_of(source, generator)
            at += 1
    return takes


def _takes_of(source: Source, generator: random.Random) -> list[Take]:
    starts = list(STARTS) * (NUM_TAKES // len(STARTS))
    generator.shuffle(starts)
    return [
        Take(source=source, number=number, start=start, stays=_stays(start, generator))
        for number, start in enumerate(starts)
    ]


def _stays(start: int, generator: random.Random) -> dict[Visit, tuple[Point, ...]]:
    # In the order of the places: that of a class would do, as the visits are the same.
    visits = sorted(visits_of(next(iter(MOTIONS)), start=start))
    return {visit: tuple(_shake(generator) for _ in range(generator.choice(STAYS))) for visit in visits}


def _shake(generator: random.Random) -> Point:
    return round(generator.uniform(-MAX_SHAKE, MAX_SHAKE), 2), round(generator.uniform(-MAX_SHAKE, MAX_SHAKE), 2)


def write(folder: Path) -> None:
    """Writes videos/<class>/<file> and split1.csv, which has class, file, group and subset of each: JHMDB's layout."""
    for motion in MOTIONS:
        (folder / VIDEOS_FOLDER / motion).mkdir(parents=True)
    rows = []
    for part, takes in generate().items():
        for take in takes:
            for motion, frames in take.clips().items():
                encode(folder / VIDEOS_FOLDER / motion / take.file(motion), frames)
                rows.append((motion, take.file(motion), take.source.name, part))
    with (folder / SPLIT_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows))


_CODECS: dict[Literal["libx264", "mpeg4"], dict[str, str]] = {
    # The same quantiser for every frame: a rate control would look at the frames before.
    "libx264": {"qp": "16", "preset": "veryfast"},
    "mpeg4": {"qmin": "2", "qmax": "2"},
}
"""Encoder -> its options, the best one first."""


def encode(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Writes an mp4 file: H.264, or MPEG-4 where FFmpeg was built without it.

    Args:
        path: the file.
        frames: each (64, 64, 3), RGB.
    """
    import av

    codec = next(name for name in _CODECS if name in av.codecs_available)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE, options=_CODECS[codec])
        stream.width = stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        # Each frame by itself.
        stream.gop_size = 1
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
