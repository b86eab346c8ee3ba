"""Which frames of a video a network sees: a config each way, chosen by its class.

Frames are never repeated to fill up: a video that is shorter than what is asked for gives fewer, at least one. How many
follows from the video alone (`num_frames_of`), not from chance, so that batches can be planned beforehand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int64

Indices: TypeAlias = Int64[np.ndarray, "num_frames"]


@dataclass(frozen=True)
class SamplingConfig(ABC):
    """Which frames are taken from a video."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            whole = field.name != "frames_per_second"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not value > 0:
                wanted = "a whole number of at least 1" if whole else "a number above 0"
                raise ValueError(f"data.sampling.{field.name} ({type(self).__name__}) must be {wanted}, got {value!r}.")

    def clips(self, num_frames: int, fps: float, *, seed: Sequence[int] | None) -> list[Indices]:
        """Numbers of the frames to read.

        Args:
            num_frames: of the video, at least 1.
            fps: frames a second of the video, above 0.
            seed: in training (seed, epoch, index): with the same one come the same frames; None = evaluation, without chance.

        Returns:
            The frames of each clip, strictly ascending, `num_frames_of` many. In training there is one clip; in
            evaluation `Dense` may give several, whose predictions are to be averaged.

        Raises:
            ValueError: the video has no frame or no rate.
        """
        _check_video(num_frames, fps)
        generator = None if seed is None else np.random.default_rng([int(number) for number in seed])
        return self._clips(num_frames, fps, generator)

    def num_frames_of(self, num_frames: int, fps: float) -> int:
        """Frames in every clip of a video, in training and evaluation: known without reading any.

        Raises:
            ValueError: the video has no frame or no rate.
        """
        _check_video(num_frames, fps)
        return self._num_frames_of(num_frames, fps)

    @property
    def is_random(self) -> bool:
        """Whether training sees other frames than evaluation: features of the latter do not serve the former."""
        return False

    @abstractmethod
    def _num_frames_of(self, num_frames: int, fps: float) -> int: ...

    def _clips(self, num_frames: int, fps: float, generator: np.random.Generator | None) -> list[Indices]:
        """The frames in the middle of segments; those that are random, or have several clips, do otherwise."""
        return [_centres(num_frames, self._num_frames_of(num_frames, fps))]


@dataclass(frozen=True)
class Uniform(SamplingConfig):
    """Frames spread evenly over the whole video: the middle ones of equal segments, in training and evaluation.

    A video with fewer frames gives all it has.
    """

    num_frames: int
    """Frames of a clip, at most."""

    def _num_frames_of(self, num_frames: int, fps: float) -> int:
        return min(self.num_frames, num_frames)


@dataclass(frozen=True)
class RandomSegments(SamplingConfig):
    """One frame of each of equal segments: any one in training, the middle one in evaluation.

    Segments differ by one frame at most and cover the whole video; one with fewer frames than segments gives all it has.
    Source: Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.1.
    """

    num_frames: int
    """Segments, and so frames of a clip, at most."""

    @property
    def is_random(self) -> bool:
        """True: that is the point of it."""
        return True

    def _num_frames_of(self, num_frames: int, fps: float) -> int:
        return min(self.num_frames, num_frames)

    def _clips(self, num_frames: int, fps: float, generator: np.random.Generator | None) -> list[Indices]:
        num_segments = self._num_frames_of(num_frames, fps)
        if generator is None:
            return [_centres(num_frames, num_segments)]
        bounds = _bounds(num_frames, num_segments)
        return [bounds[:-1] + _below(np.diff(bounds), generator)]


@dataclass(frozen=True)
class Dense(SamplingConfig):
    """A part of the video with a fixed distance between frames: any part in training, in evaluation the middle or several.

    A video that is shorter than the part gives what fits with the same distance.
    """

    num_frames: int
    """Frames of a clip, at most."""
    stride: int = 1
    """Distance from one frame to the next, frames of the video; 1 = consecutive ones."""
    num_clips: int = 1
    """Evaluation: so many clips, from the first to the last that fit, evenly spread; 1 = the one in the middle. A video
    in which fewer different ones fit gives those."""

    @property
    def is_random(self) -> bool:
        """True: where the part begins is random."""
        return True

    def num_clips_of(self, num_frames: int) -> int:
        """Clips of a video in evaluation.

        Raises:
            ValueError: the video has no frame.
        """
        _check_video(num_frames, 1.0)
        return len(self._starts(num_frames))

    def _num_frames_of(self, num_frames: int, fps: float) -> int:
        return min(self.num_frames, -(-num_frames // self.stride))

    def _room(self, num_frames: int) -> int:
        """How far a clip can be moved, frames."""
        return num_frames - 1 - (self._num_frames_of(num_frames, 1.0) - 1) * self.stride

    def _starts(self, num_frames: int) -> Int64[np.ndarray, "num_clips"]:
        room = self._room(num_frames)
        if self.num_clips == 1:
            return np.array([room // 2])
        return np.unique(np.arange(self.num_clips) * room // (self.num_clips - 1))

    def _clips(self, num_frames: int, fps: float, generator: np.random.Generator | None) -> list[Indices]:
        steps = np.arange(self._num_frames_of(num_frames, fps)) * self.stride
        if generator is None:
            return [start + steps for start in self._starts(num_frames)]
        return [_below(np.array(self._room(num_frames) + 1), generator) + steps]


@dataclass(frozen=True)
class AtRate(SamplingConfig):
    """As many frames as the video has at a given rate, evenly spread, in training and evaluation: longer videos give more.

    A video with a lower rate gives all its frames; one with more than `max_frames` is thinned evenly instead of cut.
    """

    frames_per_second: float
    """Frames to take a second."""
    max_frames: int | None = None
    """Frames of a clip, at most; null = as many as there are."""

    def _num_frames_of(self, num_frames: int, fps: float) -> int:
        at_rate = max(1, round(num_frames / fps * self.frames_per_second))
        return min(at_rate, num_frames, self.max_frames or num_frames)


@dataclass(frozen=True)
class EveryFrame(SamplingConfig):
    """All frames from the first on, or one of `stride`, in training and evaluation.

    A video with more than `max_frames` of them is thinned evenly instead of cut.
    """

    max_frames: int | None = None
    """Frames of a clip, at most; null = as many as there are."""
    stride: int = 1
    """Distance from one frame to the next, frames of the video."""

    def _num_frames_of(self, num_frames: int, fps: float) -> int:
        there = -(-num_frames // self.stride)
        return min(there, self.max_frames or there)

    def _clips(self, num_frames: int, fps: float, generator: np.random.Generator | None) -> list[Indices]:
        there = np.arange(0, num_frames, self.stride)
        return [there[_centres(len(there), self._num_frames_of(num_frames, fps))]]


def _check_video(num_frames: int, fps: float) -> None:
    if num_frames < 1 or not 0 < fps < np.inf:
        raise ValueError(
            f"Frames are chosen of a video with at least 1 frame and a rate above 0, got {num_frames} frames at {fps} a second."
        )


def _bounds(num_frames: int, num_segments: int) -> Int64[np.ndarray, "num_segments+1"]:
    """Where equal segments begin, and the last one ends; no segment is empty unless there are more than frames."""
    bounds: Int64[np.ndarray, "num_segments+1"]
    bounds = np.arange(num_segments + 1, dtype=np.int64) * num_frames // num_segments
    return bounds


def _centres(num_frames: int, num_segments: int) -> Indices:
    bounds = _bounds(num_frames, num_segments)
    centres: Indices = (bounds[:-1] + bounds[1:]) // 2
    return centres


def _below(ends: Int64[np.ndarray, "*any"], generator: np.random.Generator) -> Int64[np.ndarray, "*any"]:
    """A whole number from 0 to below each end."""
    # By floats, whose stream NumPy keeps from version to version; how it makes integers has changed before.
    below: Int64[np.ndarray, "*any"] = np.minimum((generator.random(ends.shape) * ends).astype(np.int64), ends - 1)
    return below


_KINDS: tuple[type[SamplingConfig], ...] = (Uniform, RandomSegments, Dense, AtRate, EveryFrame)


def sampling_to_plain(sampling: SamplingConfig) -> dict[str, int | float | str | None]:
    """A config as plain data, for a checkpoint."""
    return {
        "kind": type(sampling).__name__,
        **{field.name: getattr(sampling, field.name) for field in fields(sampling)},
    }


def sampling_from_plain(plain: Mapping[str, Any]) -> SamplingConfig:
    """The way back.

    Raises:
        ValueError: there is no such kind.
    """
    settings = dict(plain)
    name = settings.pop("kind")
    kinds = {kind.__name__: kind for kind in _KINDS}
    if name not in kinds:
        raise ValueError(f"Frames are sampled by {', '.join(kinds)}, got {name!r}.")
    return kinds[name](**settings)
