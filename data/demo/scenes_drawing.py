"""Draws scenes of the `scenes` set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from data.demo.scenes_objects import IMAGE_SIZE, Scene, SceneObject

if TYPE_CHECKING:
    from PIL.Image import Image

OVERSAMPLING = 4
"""Drawn so many times larger and shrunk, which smooths the edges."""
RING_HOLE = 0.55
"""Inner radius of a ring, as a share of its outer one."""
_REACH = {"circle": 1.0, "bar": 1.27, "triangle": 1.25, "ring": 1.05, "cross": 1.16}
"""Farthest point from the centre as a multiple of the radius: so that all shapes of a size look as large."""
_CROSS_WIDTH = 0.28
_BAR_LENGTH = 2.5
"""Of a bar, as a multiple of its height."""

Corner = tuple[float, float]
"""A point about the centre of an object; x to the right and y down, 1 is its farthest point from there."""


def reach(shape: str, radius: float) -> float:
    """Distance from the centre of an object to its farthest point, in pixels."""
    return _REACH[shape] * radius


def draw(scene: Scene) -> Image:
    """The picture of a scene, 64 x 64 pixels, RGB. A function of the scene alone."""
    from PIL import Image, ImageDraw

    size = IMAGE_SIZE * OVERSAMPLING
    picture = Image.new("RGB", (size, size), scene.background_rgb)
    canvas = ImageDraw.Draw(picture)
    for each in scene.objects:
        if each.shape in _CORNERS:
            canvas.polygon(_outline(each), fill=each.rgb)
            continue
        outer = reach(each.shape, each.radius)
        canvas.ellipse(_box(each, outer), fill=each.rgb)
        if each.shape == "ring":
            canvas.ellipse(_box(each, outer * RING_HOLE), fill=scene.background_rgb)
    return picture.reduce(OVERSAMPLING)


def _outline(thing: SceneObject) -> list[tuple[float, float]]:
    scale = OVERSAMPLING * reach(thing.shape, thing.radius)
    cos, sin = math.cos(math.radians(thing.angle)), math.sin(math.radians(thing.angle))
    return [
        (
            OVERSAMPLING * thing.x + scale * (across * cos - down * sin),
            OVERSAMPLING * thing.y + scale * (across * sin + down * cos),
        )
        for across, down in _CORNERS[thing.shape]()
    ]


def _box(thing: SceneObject, radius: float) -> tuple[float, float, float, float]:
    x, y, radius = (OVERSAMPLING * each for each in (thing.x, thing.y, radius))
    return x - radius, y - radius, x + radius, y + radius


def _on_circle(num_corners: int, *, first: float) -> list[Corner]:
    """Corners at equal angles, the first one clockwise from the top by so many degrees."""
    angles = [math.radians(first + 360 * number / num_corners) for number in range(num_corners)]
    return [(math.sin(angle), -math.cos(angle)) for angle in angles]


def _bar() -> list[Corner]:
    diagonal = math.hypot(_BAR_LENGTH, 1)
    wide, high = _BAR_LENGTH / diagonal, 1 / diagonal
    return [(-wide, -high), (wide, -high), (wide, high), (-wide, high)]


def _cross() -> list[Corner]:
    wide, long = _CROSS_WIDTH, math.sqrt(1 - _CROSS_WIDTH**2)
    arm = [(-wide, -long), (wide, -long), (wide, -wide)]
    corners: list[Corner] = []
    for _ in range(4):
        corners += arm
        arm = [(-down, across) for across, down in arm]
    return corners


_CORNERS: dict[str, Callable[[], list[Corner]]] = {
    "bar": _bar,
    "triangle": lambda: _on_circle(3, first=0),
    "cross": _cross,
}
