"""What is drawn is what the scene says: seen in the pixels, without the code that draws."""

from __future__ import annotations

import colorsys
import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from data.demo.scenes import VERSION
from data.demo.scenes_drawing import draw
from data.demo.scenes_objects import BACKGROUNDS, COLOURS, SHAPES, Scene, SceneObject
from tests.data.demo import generated


@cache
def shown() -> list[tuple[Scene, NDArray[np.uint8]]]:
    """The scenes of the test part and their pictures."""
    scenes = [example.scene for example in generated.scenes()["test"]]
    return [(scene, np.asarray(draw(scene))) for scene in scenes]


# Hue in degrees of each colour, no nearer to another one than the tolerance of twice 10.
HUES = {"red": 0, "orange": 30, "yellow": 57, "green": 125, "blue": 220, "purple": 288}

# Mean brightness of the test pictures: what is drawn otherwise needs another version.
MEANS = {1: 68.914, 2: 68.49}


def colour_at(picture: NDArray[np.uint8], x: float, y: float) -> NDArray[np.int64]:
    return picture[int(y), int(x)].astype(np.int64)


def inside(thing: SceneObject) -> tuple[float, float]:
    """A point that belongs to the object: its centre, or for a ring the middle of its upper part."""
    return thing.x, thing.y - (0.8 * thing.radius if thing.shape == "ring" else 0)


def covered(scene: Scene, picture: NDArray[np.uint8], at: int) -> NDArray[np.bool_]:
    """Pixels nearer in colour to the object than to the background, on the object's side of the picture."""
    thing = scene.objects[at]
    to_object = np.abs(picture.astype(int) - thing.rgb).sum(-1)
    to_ground = np.abs(picture.astype(int) - scene.background_rgb).sum(-1)
    y, x = np.mgrid[:64, :64] + 0.5
    near = np.hypot(x - thing.x, y - thing.y) <= 1.3 * thing.radius + 1
    return (to_object < to_ground) & near


def test_an_object_has_its_colour_where_it_is_and_the_rest_is_background() -> None:
    for scene, picture in shown():
        free = np.ones((64, 64), dtype=bool)
        for thing in scene.objects:
            assert (colour_at(picture, *inside(thing)) == thing.rgb).all(), thing
            if thing.shape == "ring":
                assert (colour_at(picture, thing.x, thing.y) == scene.background_rgb).all(), thing
            y, x = np.mgrid[:64, :64] + 0.5
            free &= np.hypot(x - thing.x, y - thing.y) > 1.3 * thing.radius + 1
        assert (picture[free] == scene.background_rgb).all()
        assert free.mean() > 0.3


def test_colours_are_far_apart() -> None:
    seen = set()
    for scene, _ in shown():
        for thing in scene.objects:
            hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in thing.rgb))
            seen.add(thing.colour)
            if thing.colour == "white":
                assert saturation < 0.05
                assert value > 0.9
            else:
                assert saturation > 0.7
                assert abs((360 * hue - HUES[thing.colour] + 180) % 360 - 180) < 10
            # Each stands out against its background.
            assert np.abs(np.subtract(thing.rgb, scene.background_rgb)).max() > 60
    assert seen == set(COLOURS)


def test_backgrounds_are_far_apart() -> None:
    values = {name: {s.background_rgb for s, _ in shown() if s.background == name} for name in BACKGROUNDS}
    assert max(max(rgb) for rgb in values["black"]) < 30
    assert min(min(rgb) for rgb in values["grey"]) > 85
    assert all(len(set(rgb)) == 1 for shades in values.values() for rgb in shades)


@pytest.mark.parametrize("shape", SHAPES)
def test_large_is_large(shape: str) -> None:
    """Area as it is in the pixels: sizes of one shape never come near each other."""
    areas: dict[str, list[int]] = {"small": [], "large": []}
    for scene, picture in shown():
        for at, thing in enumerate(scene.objects):
            if thing.shape == shape:
                areas[thing.size].append(int(covered(scene, picture, at).sum()))
    assert min(areas["large"]) > 2.2 * max(areas["small"]), areas


def test_shapes_are_what_they_are_called() -> None:
    """By area over the square of the radius, with the hole and arms drawn as the plan says."""
    plan = {
        "circle": math.pi,
        "bar": 4 * 2.5 / (2.5**2 + 1) * 1.27**2,
        "triangle": 3 * math.sqrt(3) / 4 * 1.25**2,
        "ring": math.pi * 1.05**2 * (1 - 0.55**2),
    }
    for scene, picture in shown():
        for at, thing in enumerate(scene.objects):
            if thing.shape in plan and thing.size == "large":
                area = covered(scene, picture, at).sum() / thing.radius**2
                assert area == pytest.approx(plan[thing.shape], rel=0.12), thing


def test_centre_of_mass_is_where_the_scene_says_so_relations_hold_in_the_pixels() -> None:
    for scene, picture in shown():
        for at, thing in enumerate(scene.objects):
            y, x = np.nonzero(covered(scene, picture, at))
            assert x.mean() + 0.5 == pytest.approx(thing.x, abs=0.6)
            assert y.mean() + 0.5 == pytest.approx(thing.y, abs=0.6)


def test_objects_are_whole_and_apart() -> None:
    for scene, picture in shown():
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (edge == scene.background_rgb).all()
        if len(scene.objects) == 2:
            axis = 0 if scene.relation == "left" else 1
            background = (picture == scene.background_rgb).all(-1).all(axis=axis)
            first, second = ((each.x, each.y)[axis] for each in scene.objects)
            assert background[int(first) : int(second)].any()


def test_pictures_differ_and_are_drawn_alike_twice() -> None:
    pictures = [picture for _, picture in shown()]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    again = [np.asarray(draw(scene)) for scene, _ in shown()]
    assert all((one == other).all() for one, other in zip(pictures, again, strict=True))


def test_the_drawing_of_a_version_never_changes() -> None:
    """Not to the bit: another Pillow may place a pixel of an edge differently."""
    assert np.mean([picture for _, picture in shown()]) == pytest.approx(MEANS[VERSION], abs=0.05), (
        "raise VERSION and add its mean"
    )
