"""What a scene of the `scenes` set is: one or two objects on a background, and how two objects lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

SIZES = ("small", "large")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
SHAPES = ("circle", "bar", "triangle", "ring", "cross")
"""Not a square: where small, it is a circle but for four corners of a pixel each."""
BACKGROUNDS = ("black", "grey")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
"""Each relation and that of the same two objects, told from the other one."""

IMAGE_SIZE = 64
"""Height and width of a picture in pixels; x runs from 0 at the left to this at the right, y from the top down."""
MIN_DISTANCE = 20.0
"""Least distance of two objects along the axis of their relation, in pixels."""
MAX_SLANT = 0.25
"""Most distance across that axis, as a share of the distance along it."""

Rgb = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""


class Description(NamedTuple):
    """What a caption says of an object; no two objects of a scene have the same."""

    size: str
    """One of `SIZES`."""
    colour: str
    """One of `COLOURS`."""
    shape: str
    """One of `SHAPES`."""

    @property
    def kind(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.colour, self.shape

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """An object, with all that is needed to draw it."""

    size: str
    """One of `SIZES`."""
    colour: str
    """One of `COLOURS`."""
    shape: str
    """One of `SHAPES`."""
    x: float
    """Centre, in pixels from the left edge."""
    y: float
    """Centre, in pixels from the upper edge."""
    radius: float
    """Of a circle of this size, in pixels; the other shapes are drawn to look as large."""
    angle: float
    """Turned clockwise by so many degrees."""
    rgb: Rgb
    """The shade of the colour."""

    def __post_init__(self) -> None:
        _check_word(self.size, SIZES, what="size")
        _check_word(self.colour, COLOURS, what="colour")
        _check_word(self.shape, SHAPES, what="shape")

    @property
    def description(self) -> Description:
        """Size, colour and shape."""
        return Description(self.size, self.colour, self.shape)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One or two objects on a background. Of two, the first is the left one or the upper one.

    Raises:
        ValueError: A word is unknown, the objects are too many or of one description, or none or both of left/right and
            above/below would describe them.
    """

    background: str
    """One of `BACKGROUNDS`."""
    background_rgb: Rgb
    """Its shade."""
    objects: tuple[SceneObject, ...]
    """One or two."""

    def __post_init__(self) -> None:
        _check_word(self.background, BACKGROUNDS, what="background")
        if len(self.objects) not in (1, 2):
            raise ValueError(f"A scene has one or two objects, got {len(self.objects)}.")
        if len(set(self.descriptions)) != len(self.objects):
            raise ValueError(f"Captions could not tell the objects apart: both are a {self.descriptions[0]}.")
        if len(self.objects) == 2 and self.relation not in ("left", "above"):
            raise ValueError(f"The left or upper object comes first, got one that is {self.relation} of the second.")

    @property
    def descriptions(self) -> tuple[Description, ...]:
        """What there is to see, in the order of the objects."""
        return tuple(each.description for each in self.objects)

    @cached_property
    def relation(self) -> str | None:
        """Where the first object is, seen from the second: a key of `OPPOSITE`; None in a scene of one object."""
        return relation_between(*self.objects) if len(self.objects) == 2 else None

    def to_plain(self) -> dict[str, Any]:
        """The scene as numbers, strings, lists and dicts, for JSON."""
        return {
            "background": self.background,
            "background_rgb": list(self.background_rgb),
            "objects": [{**asdict(each), "rgb": list(each.rgb)} for each in self.objects],
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Scene:
        """The scene that `to_plain` described.

        Raises:
            ValueError: It describes none; the message names what is missing, unknown or not allowed.
        """
        try:
            objects = tuple(SceneObject(**{**each, "rgb": tuple(each["rgb"])}) for each in plain["objects"])
            background, shade = plain["background"], tuple(plain["background_rgb"])
        except KeyError as error:
            raise ValueError(
                f"A scene has the keys background, background_rgb and objects: {error} is missing."
            ) from error
        except TypeError as error:
            keys = ", ".join(SceneObject.__dataclass_fields__)
            raise ValueError(f"An object of a scene has the keys {keys}: {error}.") from error
        return Scene(background=background, background_rgb=shade, objects=objects)


def relation_between(one: SceneObject, other: SceneObject) -> str:
    """Where `one` is, seen from the other: left, right, above or below.

    Raises:
        ValueError: They lie too near or too much aslant for one of these words to be right and the others wrong.
    """
    across, down = one.x - other.x, one.y - other.y
    along, off = max(abs(across), abs(down)), min(abs(across), abs(down))
    if along < MIN_DISTANCE or off > MAX_SLANT * along:
        raise ValueError(
            f"Two objects must be {MIN_DISTANCE:g} pixels apart or more along one axis, and across it by at most "
            f"{MAX_SLANT:g} of that, got centres ({one.x}, {one.y}) and ({other.x}, {other.y})."
        )
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def _check_word(word: str, known: tuple[str, ...], *, what: str) -> None:
    if word not in known:
        raise ValueError(f"A {what} is one of {', '.join(known)}, got {word!r}.")
