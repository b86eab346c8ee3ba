"""What the sprites of the `motions` set and their backgrounds look like."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME_SIZE = 64
"""Height and width of a frame in pixels; x runs from 0 at the left to this at the right, y from the top down."""
RADII = (5.5, 8.0)
"""Least and greatest distance from the centre of a sprite to its farthest point, in pixels."""
SPREAD = (12.0, 15.0)
"""Half the distance between neighbouring places: no two sprites at different places overlap."""
MAX_OFFSET = 3.0
"""How far the middle of the places may lie from that of the frame, along each axis."""
MAX_SHAKE = 1.5
"""How far a sprite may lie from its place, along each axis, anew in each frame."""
_OVERSAMPLING = 4
"""Points along each axis of a pixel that are looked at, which smooths the edges."""
_SIDES = ((-1, -1), (1, -1), (1, 1), (-1, 1))
"""Of each place, on which side of the middle it lies."""
_SPRITE_VALUES = (0.8, 1.0)
_GROUND_VALUES = ((0.08, 0.22), (0.22, 0.38))
"""Brightness of the two colours of a background: below that of every sprite."""

Rgb = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""
Point = tuple[float, float]
"""x and y in pixels."""
_Plane = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sprite, its four places and its background: what all clips of a group share."""

    name: str
    """The group."""
    shape: str
    """A key of `SHAPES`."""
    radius: float
    """From the centre of the sprite to its farthest point, in pixels."""
    rgb: Rgb
    """Colour of the sprite."""
    middle: Point
    """Of the four places."""
    spread: float
    """Distance of each place from the middle, along both axes, in pixels."""
    ground: str
    """A key of `GROUNDS`: how the background goes from one of its colours to the other."""
    ground_rgbs: tuple[Rgb, Rgb]
    """The colours of the background."""
    wave: float
    """Length in which its pattern repeats itself, in pixels."""
    angle: float
    """Direction of the pattern, in radians."""

    def place(self, number: int) -> Point:
        """Where a place is; 0 is the upper left one, the others follow clockwise."""
        across, down = _SIDES[number]
        return self.middle[0] + self.spread * across, self.middle[1] + self.spread * down


def sample_source(name: str, shape: str, generator: random.Random) -> Source:
    """A source with a sprite of this shape, all else drawn by chance."""
    hue = generator.random()
    # Another hue than that of the sprite: who looks for a colour finds one thing.
    ground_hue = hue + generator.uniform(0.25, 0.75)
    return Source(
        name=name,
        shape=shape,
        radius=round(generator.uniform(*RADII), 2),
        rgb=_rgb(hue, generator.uniform(0.0, 0.9), generator.uniform(*_SPRITE_VALUES)),
        middle=(_about_middle(generator), _about_middle(generator)),
        spread=round(generator.uniform(*SPREAD), 2),
        ground=generator.choice(list(GROUNDS)),
        ground_rgbs=(
            _rgb(ground_hue, generator.uniform(0.2, 0.7), generator.uniform(*_GROUND_VALUES[0])),
            _rgb(ground_hue, generator.uniform(0.2, 0.7), generator.uniform(*_GROUND_VALUES[1])),
        ),
        wave=round(generator.uniform(8.0, 24.0), 2),
        angle=round(generator.uniform(0.0, math.pi), 3),
    )


def draw_background(source: Source) -> _Plane:
    """The background without the sprite, (height, width, 3), values from 0 to 255."""
    x, y = _grid(FRAME_SIZE, FRAME_SIZE)
    cos, sin = math.cos(source.angle), math.sin(source.angle)
    mix = GROUNDS[source.ground](cos * x + sin * y, cos * y - sin * x, source.wave)[..., None]
    first, second = (np.asarray(rgb, dtype=np.float64) for rgb in source.ground_rgbs)
    return first * (1 - mix) + second * mix


def draw_frame(source: Source, background: _Plane, *, place: int, shake: Point) -> NDArray[np.uint8]:
    """A frame, (height, width, 3), RGB: the sprite stands at a place, off by so many pixels.

    Args:
        source: what there is to see.
        background: `draw_background` of it, (height, width, 3): drawn once for many frames.
        place: 0 to 3.
        shake: to the right and down, in pixels.
    """
    x, y = source.place(place)
    across, down = _grid(FRAME_SIZE * _OVERSAMPLING, FRAME_SIZE)
    inside = SHAPES[source.shape]((across - x - shake[0]) / source.radius, (down - y - shake[1]) / source.radius)
    blocks = inside.reshape(FRAME_SIZE, _OVERSAMPLING, FRAME_SIZE, _OVERSAMPLING)
    cover = blocks.mean(axis=(1, 3))[..., None]
    picture: _Plane = background * (1 - cover) + np.asarray(source.rgb) * cover
    return picture.round().astype(np.uint8)


def _grid(num_points: int, size: float) -> tuple[_Plane, _Plane]:
    """X and y of the middle of each of so many points along each axis."""
    along = (np.arange(num_points) + 0.5) * (size / num_points)
    x, y = np.meshgrid(along, along)
    return x, y


def _about_middle(generator: random.Random) -> float:
    return round(FRAME_SIZE / 2 + generator.uniform(-MAX_OFFSET, MAX_OFFSET), 2)


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


# Sprites: whether a point belongs to one, x and y from its centre, 1 being its farthest point from there ---------------

_HALF_SQUARE = math.sqrt(0.5)
_CROSS_WIDTH = 0.3
_RING_HOLE = 0.5


def _disc(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    return np.hypot(x, y) <= 1


def _square(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    return np.maximum(abs(x), abs(y)) <= _HALF_SQUARE


def _triangle(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    # Three sides, each half a radius from the centre.
    slanted = math.sqrt(0.75) * abs(x) - 0.5 * y
    return np.maximum(slanted, y) <= 0.5


def _ring(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    far = np.hypot(x, y)
    return (far <= 1) & (far >= _RING_HOLE)


def _cross(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (near <= _CROSS_WIDTH) & (far <= math.sqrt(1 - _CROSS_WIDTH**2))


def _diamond(x: _Plane, y: _Plane) -> NDArray[np.bool_]:
    return abs(x) + abs(y) <= 1


SHAPES: dict[str, Callable[[_Plane, _Plane], NDArray[np.bool_]]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
}

# Backgrounds: how much of the second colour, from 0 to 1, by place along and across the pattern and its wave length ----


def _plain(along: _Plane, across: _Plane, wave: float) -> _Plane:
    return np.zeros_like(along)


def _slope(along: _Plane, across: _Plane, wave: float) -> _Plane:
    share: _Plane = (along - along.min()) / np.ptp(along)
    return share


def _stripes(along: _Plane, across: _Plane, wave: float) -> _Plane:
    return 0.5 + 0.5 * np.sin(2 * math.pi / wave * along)


def _waves(along: _Plane, across: _Plane, wave: float) -> _Plane:
    return 0.5 + 0.5 * np.sin(2 * math.pi / wave * along) * np.sin(2 * math.pi / wave * across)


GROUNDS: dict[str, Callable[[_Plane, _Plane, float], _Plane]] = {
    "plain": _plain,
    "slope": _slope,
    "stripes": _stripes,
    "waves": _waves,
}
