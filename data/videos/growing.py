"""A video as it comes: a file frame by frame, or a folder into which a camera puts one picture after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from data.images.listing import IMAGE_ENDINGS
from data.images.reading import ImageProblem, read_image
from data.videos.decoding import iterate_frames

# Seconds between two looks into a folder.
_POLL = 0.02


class ComingFrame(NamedTuple):
    """A frame, as soon as it is there."""

    number: int
    """From 0."""
    name: str
    """What it is called: its number, or its file."""
    time: float | None
    """Seconds since the first frame; None where nothing says so."""
    pixels: UInt8[np.ndarray, "height width 3"]


def coming_frames(
    path: str | Path,
    *,
    wait: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ComingFrame]:
    """The frames of a video file, or of a folder of pictures that may still grow, one at a time in constant memory.

    Pictures are taken in the order of their names; one that comes later with an earlier name is left out: its place is past.

    Args:
        path: a video, or a folder.
        wait: seconds to wait for the next picture of a folder, after which it has ended.
        clock: seconds, for `wait`.
        sleep: lets that many seconds go by.

    Raises:
        ValueError: there is no such path, no picture came, or one of them cannot be read.
        data.videos.files.VideoProblem: the video cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        yield from _of_folder(path, wait=wait, clock=clock, sleep=sleep)
        return
    if not path.exists():
        raise ValueError(f"{path} is not there. Name a video, or a folder into which pictures come.")
    for number, seconds, pixels in iterate_frames(path):
        yield ComingFrame(number, str(number), seconds, pixels)


def _of_folder(
    folder: Path, *, wait: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[ComingFrame]:
    last, number = "", 0
    since = clock()
    problem: ImageProblem | None = None
    while True:
        # A file that is still being written is whole a moment later, or the wait is over.
        for file in _newer(folder, last):
            try:
                pixels = read_image(file)
            except ImageProblem as error:
                problem = error
                break
            problem, last = None, file.name
            yield ComingFrame(number, file.name, None, pixels)
            number += 1
            since = clock()
        if clock() - since >= wait:
            break
        sleep(min(_POLL, wait))
    if problem is not None:
        raise problem
    if not number:
        raise ValueError(
            f"{folder} holds no picture, and none came within {wait} seconds. Pictures are told by their endings: "
            f"{', '.join(sorted(IMAGE_ENDINGS))}. Wait longer by --stream_wait."
        )


def _newer(folder: Path, last: str) -> list[Path]:
    there = [
        file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")
    ]
    return sorted((file for file in there if file.name > last), key=lambda file: file.name)
