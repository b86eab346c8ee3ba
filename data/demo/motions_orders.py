"""The classes of the `motions` set: the orders in which a sprite visits its four places."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

PLACES = ("upper left", "upper right", "lower right", "lower left")
"""The corners of a square, clockwise; elsewhere a place is its number here."""
STARTS = (0, 1)
"""Places where a sprite may start. Two and not four: were each as likely, no frame at any time would be likelier in one
class than in another, and a small network was still at chance after 420 updates; with these it took 100."""
LAPS: dict[str, tuple[int, ...]] = {
    "clockwise": (0, 1, 2, 3),
    "anticlockwise": (0, 3, 2, 1),
    "crosswise": (0, 2, 1, 3),
}
"""How a lap goes -> its places, counted clockwise from the one where it starts. Each lap visits each place once."""
NUM_LAPS = 2

MOTIONS: dict[str, tuple[str, ...]] = {
    f"{first}_twice" if first == second else f"{first}_then_{second}": (first, second)
    for first, second in product(LAPS, repeat=NUM_LAPS)
}
"""Class -> its laps: `clockwise_twice`, `clockwise_then_anticlockwise`, ..., nine of them."""


class Visit(NamedTuple):
    """A stay at a place."""

    lap: int
    """0 or 1; 2 for the last visit, when the sprite is back where it started."""
    place: int
    """A number of `PLACES`."""


def visits_of(motion: str, *, start: int) -> list[Visit]:
    """The visits of a class in their order: both laps begin at the place `start`, and the sprite ends there.

    Whatever the class, they are the same nine visits, the same one first and the same one last.
    """
    laps = [
        Visit(lap, (start + step) % len(PLACES))
        for lap, direction in enumerate(MOTIONS[motion])
        for step in LAPS[direction]
    ]
    return [*laps, Visit(NUM_LAPS, start)]
