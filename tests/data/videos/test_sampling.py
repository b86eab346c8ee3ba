"""Which frames are chosen: always frames that there are, in their order, by the seed alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.video_io import AtRate, Dense, EveryFrame, RandomSegments, SamplingConfig, Uniform

COUNTS = st.integers(1, 40)
CONFIGS = st.one_of(
    st.builds(Uniform, COUNTS),
    st.builds(RandomSegments, COUNTS),
    st.builds(Dense, COUNTS, stride=st.integers(1, 8), num_clips=st.integers(1, 12)),
    st.builds(AtRate, st.floats(0.01, 100), max_frames=st.none() | COUNTS),
    st.builds(EveryFrame, max_frames=st.none() | COUNTS, stride=st.integers(1, 8)),
)
SEEDS = st.none() | st.tuples(st.integers(0, 2**31), st.integers(0, 1000), st.integers(0, 10**6))
NUM_FRAMES = st.integers(1, 700)
RATES = st.floats(0.5, 240)


def once(
    config: SamplingConfig, num_frames: int, *, fps: float = 25.0, seed: tuple[int, ...] | None = None
) -> list[int]:
    (clip,) = config.clips(num_frames, fps, seed=seed)
    return clip.tolist()


@given(config=CONFIGS, num_frames=NUM_FRAMES, fps=RATES, seed=SEEDS)
def test_frames_exist_stand_in_order_and_are_as_many_as_said(
    config: SamplingConfig, num_frames: int, fps: float, seed: tuple[int, ...] | None
) -> None:
    """A plan of batches relies on the number; no frame is there twice, not even in the shortest video."""
    clips = config.clips(num_frames, fps, seed=seed)
    assert len(clips) >= 1
    for clip in clips:
        assert clip.dtype == np.int64
        assert len(clip) == config.num_frames_of(num_frames, fps) >= 1
        assert clip[0] >= 0
        assert clip[-1] < num_frames
        assert (np.diff(clip) > 0).all()


@given(config=CONFIGS, num_frames=NUM_FRAMES, fps=RATES, seed=SEEDS)
def test_the_seed_alone_decides(
    config: SamplingConfig, num_frames: int, fps: float, seed: tuple[int, ...] | None
) -> None:
    """Contract 3; whatever NumPy's global generator has been used for."""
    first = config.clips(num_frames, fps, seed=seed)
    np.random.seed(1)  # noqa: NPY002  the one that must not matter
    again = dataclasses.replace(config).clips(num_frames, fps, seed=seed)
    assert [clip.tolist() for clip in first] == [clip.tolist() for clip in again]
    if seed is not None and not config.is_random:
        assert [clip.tolist() for clip in config.clips(num_frames, fps, seed=None)] == [clip.tolist() for clip in first]


@pytest.mark.parametrize("config", [RandomSegments(4), Dense(8)])
def test_each_part_of_a_seed_matters(config: SamplingConfig) -> None:
    seen = {tuple(once(config, 500, seed=seed)) for seed in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 23, 4)]}
    assert len(seen) == 5


@given(num_frames=NUM_FRAMES, wanted=COUNTS)
def test_spread_evenly(num_frames: int, wanted: int) -> None:
    """Neighbours are alike in distance, and so are both ends, up to a frame."""
    frames = np.array(once(Uniform(wanted), num_frames))
    step = num_frames / len(frames)
    assert np.abs(frames + 0.5 - (np.arange(len(frames)) + 0.5) * step).max() <= 1
    assert (np.abs(np.diff(frames) - step) < 2).all()


@given(num_frames=NUM_FRAMES, wanted=COUNTS, seed=SEEDS)
def test_one_frame_of_every_segment(num_frames: int, wanted: int, seed: tuple[int, ...] | None) -> None:
    """Segments are equal up to one frame and leave none out (TSN's own code never reaches the last frames)."""
    frames = once(RandomSegments(wanted), num_frames, seed=seed)
    bounds = [place * num_frames // len(frames) for place in range(len(frames) + 1)]
    assert all(bounds[place] <= frame < bounds[place + 1] for place, frame in enumerate(frames))


def test_every_frame_of_a_segment_is_as_likely() -> None:
    counts = np.zeros(20)
    for epoch in range(4000):
        counts[once(RandomSegments(2), 20, seed=(0, epoch, 7))] += 1
    assert np.abs(counts / 400 - 1).max() < 0.25  # 5 standard deviations


def test_every_start_of_a_dense_clip_is_as_likely() -> None:
    counts = np.zeros(10)
    for epoch in range(4000):
        counts[once(Dense(4, stride=3), 19, seed=(0, epoch, 7))[0]] += 1
    assert np.abs(counts / 400 - 1).max() < 0.25


def test_uniform_and_segments_agree_in_evaluation() -> None:
    assert once(Uniform(4), 40) == once(RandomSegments(4), 40) == [5, 15, 25, 35]


def test_a_short_video_gives_what_it_has() -> None:
    """Variable length instead of padding: repeated frames would be motion that stops."""
    assert once(Uniform(8), 3) == [0, 1, 2]
    assert once(RandomSegments(8), 3, seed=(0, 0, 0)) == [0, 1, 2]
    assert once(Dense(8, stride=2), 7) == [0, 2, 4, 6]
    assert once(Dense(8, stride=2), 6, seed=(0, 0, 3)) in ([0, 2, 4], [1, 3, 5])
    assert once(AtRate(50, max_frames=8), 3) == [0, 1, 2]
    assert [once(config, 1) for config in (Uniform(4), Dense(4, stride=9), AtRate(0.1), EveryFrame(stride=3))] == [
        [0]
    ] * 4


def test_dense_clips_in_evaluation() -> None:
    """One is in the middle; several reach from the first frame to the last."""
    assert once(Dense(4, stride=2), 17) == [5, 7, 9, 11]
    several = Dense(4, stride=2, num_clips=3).clips(17, 25.0, seed=None)
    assert [clip[0] for clip in several] == [0, 5, 10]
    assert several[-1][-1] == 16
    assert len(Dense(4, num_clips=3).clips(17, 25.0, seed=(0, 0, 0))) == 1
    # Of four frames there is one clip of four: the same one twice would count for nothing but time.
    for num_frames, expected in [(4, 1), (5, 2), (6, 3), (100, 3)]:
        config = Dense(4, num_clips=3)
        assert len(config.clips(num_frames, 25.0, seed=None)) == config.num_clips_of(num_frames) == expected


def test_at_a_rate() -> None:
    """Half of the frames at half of the rate; longer videos give more, up to a limit that thins and does not cut."""
    assert once(AtRate(5), 20, fps=10.0) == list(range(1, 20, 2))
    assert len(once(AtRate(5), 40, fps=10.0)) == 20
    assert once(AtRate(5, max_frames=4), 40, fps=10.0) == [5, 15, 25, 35]
    assert once(AtRate(60), 4, fps=10.0) == [0, 1, 2, 3]


def test_every_frame() -> None:
    assert once(EveryFrame(), 5) == [0, 1, 2, 3, 4]
    assert once(EveryFrame(stride=2), 5) == [0, 2, 4]
    thinned = once(EveryFrame(max_frames=3, stride=2), 24)
    assert thinned == [4, 12, 20]


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "8"])
def test_a_wrong_setting_is_named(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"data\.sampling\.num_frames \(Uniform\) must be a whole number of at least 1"
    ):
        Uniform(value)  # type: ignore[arg-type]


def test_other_wrong_settings() -> None:
    with pytest.raises(
        ValueError, match=r"data\.sampling\.frames_per_second \(AtRate\) must be a number above 0, got nan"
    ):
        AtRate(float("nan"))
    with pytest.raises(ValueError, match=r"data\.sampling\.stride \(Dense\)"):
        Dense(4, stride=0)
    with pytest.raises(ValueError, match=r"data\.sampling\.max_frames \(EveryFrame\)"):
        EveryFrame(max_frames=0)
    with pytest.raises(ValueError, match=r"got 0 frames at 25\.0"):
        Uniform(4).clips(0, 25.0, seed=None)
    with pytest.raises(ValueError, match=r"got 3 frames at 0\.0"):
        AtRate(4).num_frames_of(3, 0.0)
