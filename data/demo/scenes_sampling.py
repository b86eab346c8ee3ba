"""Draws scenes of the `scenes` set: given what they show, where it lies and how exactly it looks."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence

from data.demo.scenes_drawing import reach
from data.demo.scenes_objects import IMAGE_SIZE, MAX_SLANT, MIN_DISTANCE, Description, Rgb, Scene, SceneObject

RADII = {"small": (6.0, 6.5), "large": (11.0, 11.7)}
"""Size -> least and largest radius in pixels; large is 1.7 to 2 times small."""
MAX_TILT = 12.0
"""An object is turned by at most so many degrees to either side."""
MARGIN = 1.0
"""Pixels between an object and the edge, at least."""
GAP = 2.0
"""Pixels between two objects along the axis of their relation, at least."""
# Hue in degrees, saturation, value.
_SHADES = {
    "red": (0.0, 0.90, 0.90),
    "orange": (29.0, 0.95, 0.96),
    "yellow": (57.0, 0.90, 0.95),
    "green": (125.0, 0.85, 0.70),
    "blue": (222.0, 0.85, 0.90),
    "purple": (288.0, 0.75, 0.75),
    "white": (0.0, 0.0, 0.97),
}
_BACKGROUND_VALUES = {"black": 0.06, "grey": 0.40}
_HUE_VARIATION = 4.0
_VALUE_VARIATION = 0.03


def sample_scene(descriptions: Sequence[Description], background: str, generator: random.Random) -> Scene:
    """A scene of one or two objects; of two, the relation is drawn too, and either may be the first one."""
    value = _BACKGROUND_VALUES[background] + generator.uniform(-_VALUE_VARIATION, _VALUE_VARIATION)
    descriptions = generator.sample(descriptions, len(descriptions))
    radii = [round(generator.uniform(*RADII[each.size]), 2) for each in descriptions]
    reaches = [reach(each.shape, radius) for each, radius in zip(descriptions, radii, strict=True)]
    if len(reaches) == 1:
        centres = [(_place(reaches[0], generator), _place(reaches[0], generator))]
    else:
        centres = _place_two(reaches, generator)
    objects = tuple(
        SceneObject(
            size=each.size,
            colour=each.colour,
            shape=each.shape,
            x=round(x, 2),
            y=round(y, 2),
            radius=radius,
            angle=round(generator.uniform(-MAX_TILT, MAX_TILT), 1),
            rgb=_shade(each.colour, generator),
        )
        for each, radius, (x, y) in zip(descriptions, radii, centres, strict=True)
    )
    return Scene(background=background, background_rgb=_rgb(0.0, 0.0, value), objects=objects)


def _place(distance: float, generator: random.Random) -> float:
    return generator.uniform(MARGIN + distance, IMAGE_SIZE - MARGIN - distance)


def _place_two(reaches: Sequence[float], generator: random.Random) -> list[tuple[float, float]]:
    """Two centres side by side or one above the other, each as often as the other."""
    near, far = MARGIN + reaches[0], IMAGE_SIZE - MARGIN - reaches[1]
    along = generator.uniform(max(MIN_DISTANCE, sum(reaches) + GAP), far - near)
    start = generator.uniform(near, far - along)
    while True:
        first, second = (_place(each, generator) for each in reaches)
        # A little less, for rounding.
        if abs(first - second) <= MAX_SLANT * along - 0.02:
            break
    centres = [(start, first), (start + along, second)]
    return centres if generator.random() < 0.5 else [(down, across) for across, down in centres]


def _shade(colour: str, generator: random.Random) -> Rgb:
    hue, saturation, value = _SHADES[colour]
    hue += generator.uniform(-_HUE_VARIATION, _HUE_VARIATION)
    return _rgb(hue, saturation, value + generator.uniform(-_VALUE_VARIATION, _VALUE_VARIATION))


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
