"""What is drawn is what the source says: seen in the pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from data.demo.motions import VERSION, generate
from data.demo.motions_drawing import FRAME_SIZE, GROUNDS, MAX_SHAKE, RADII, SHAPES, Source, draw_background, draw_frame

SOURCES = list({take.source.name: take.source for takes in generate().values() for take in takes}.values())

# Mean brightness of a frame of each source: what is drawn otherwise needs another version.
MEANS = {1: 44.006}


def covered(source: Source, place: int, shake: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.bool_]:
    """Pixels that are nearer in colour to the sprite than to the background."""
    background = draw_background(source)
    frame = draw_frame(source, background, place=place, shake=shake).astype(float)
    return np.asarray(abs(frame - source.rgb).sum(-1) < abs(frame - background).sum(-1))


def test_sprites_are_whole_and_clear_of_each_other_wherever_they_stand() -> None:
    shakes = [(x, y) for x in (-MAX_SHAKE, MAX_SHAKE) for y in (-MAX_SHAKE, MAX_SHAKE)]
    for source in SOURCES:
        seen = [np.any([covered(source, place, shake) for shake in shakes], axis=0) for place in range(4)]
        assert np.sum(seen, axis=0).max() == 1
        everywhere = np.any(seen, axis=0)
        assert everywhere.sum() == everywhere[1:-1, 1:-1].sum()


def test_places_are_clockwise_from_the_upper_left_and_the_sprite_is_there() -> None:
    for source in SOURCES:
        centres = []
        for place in range(4):
            y, x = np.nonzero(covered(source, place, (1.0, -1.0)))
            centres.append((x.mean() + 0.5, y.mean() + 0.5))
            assert centres[-1] == pytest.approx(np.add(source.place(place), (1.0, -1.0)), abs=0.7)
        left, right = [centres[0][0], centres[3][0]], [centres[1][0], centres[2][0]]
        upper, lower = [centres[0][1], centres[1][1]], [centres[2][1], centres[3][1]]
        assert min(right) - max(left) > 20
        assert min(lower) - max(upper) > 20


def test_every_sprite_stands_out_from_its_background() -> None:
    for source in SOURCES:
        background = draw_background(source)
        assert background.max() < 0.4 * 255
        assert max(source.rgb) - background.max() > 0.4 * 255


def test_shapes_differ_and_are_of_their_size() -> None:
    small, large = (
        {shape: covered(replace(SOURCES[0], shape=shape, radius=radius), 0).sum() for shape in SHAPES}
        for radius in RADII
    )
    for shape in SHAPES:
        assert large[shape] / small[shape] == pytest.approx((RADII[1] / RADII[0]) ** 2, rel=0.25)
    drawn = {covered(replace(SOURCES[0], shape=shape, radius=8.0), 0).tobytes() for shape in SHAPES}
    assert len(drawn) == len(SHAPES)


@pytest.mark.parametrize("ground", GROUNDS)
def test_backgrounds_lie_between_their_colours_and_reach_both(ground: str) -> None:
    source = replace(SOURCES[0], ground=ground, ground_rgbs=((10, 20, 30), (60, 60, 60)), wave=11.0, angle=0.3)
    background = draw_background(source)
    assert background.shape == (FRAME_SIZE, FRAME_SIZE, 3)
    assert (background >= (10, 20, 30)).all()
    assert (background <= 60).all()
    assert background.min() < 13
    assert ground == "plain" or background.max() > 57


def test_frames_of_a_version_never_change() -> None:
    frames = [draw_frame(source, draw_background(source), place=1, shake=(0.3, 0.7)) for source in SOURCES]
    assert np.mean(frames) == pytest.approx(MEANS[VERSION], abs=0.01), "drawn otherwise: raise VERSION"
