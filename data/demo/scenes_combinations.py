"""Which combinations of the `scenes` set are held out of training, and lots that deal the others evenly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations, islice, product
from typing import TypeVar

from data.demo.scenes_objects import COLOURS, SHAPES, SIZES, Description, Scene

Kind = tuple[str, str]
"""A colour and a shape."""
Lot = tuple[Description, ...]
"""The objects of a scene, in no order."""
Card = TypeVar("Card")

HELD_OUT_PAIRS_SHARE = 0.1
"""Of all pairs of kinds, how many are held out."""
_SEED = 1


def _held_out_descriptions() -> tuple[Description, ...]:
    """Of each shape one colour in small and another one in large, so that each kind is seen in one size at least."""
    held_out = []
    for at, shape in enumerate(SHAPES):
        held_out.append(Description("small", COLOURS[at % len(COLOURS)], shape))
        held_out.append(Description("large", COLOURS[(at + 3) % len(COLOURS)], shape))
    return tuple(held_out)


HELD_OUT = _held_out_descriptions()
"""Objects that no training picture shows."""
TAUGHT = tuple(each for words in product(SIZES, COLOURS, SHAPES) if (each := Description(*words)) not in HELD_OUT)
"""All other objects."""

KIND_PAIRS: tuple[tuple[Kind, Kind], ...] = tuple(combinations(product(COLOURS, SHAPES), 2))
"""All pairs of different kinds; the kinds of a pair are in the order of the words."""
HELD_OUT_PAIRS = tuple(random.Random(_SEED).sample(KIND_PAIRS, round(HELD_OUT_PAIRS_SHARE * len(KIND_PAIRS))))
"""Pairs of kinds that no training picture shows together, in whatever sizes."""
TAUGHT_PAIRS = tuple(pair for pair in KIND_PAIRS if pair not in HELD_OUT_PAIRS)
"""All other pairs."""

_UNSEEN = frozenset(map(frozenset, HELD_OUT_PAIRS))


def is_unseen_pair(lot: Lot) -> bool:
    """Whether the kinds of two objects are a pair that is held out."""
    return frozenset(each.kind for each in lot) in _UNSEEN


def is_unseen(scene: Scene) -> bool:
    """Whether it shows an object, or a pair of kinds, that is held out of training."""
    return not set(HELD_OUT).isdisjoint(scene.descriptions) or is_unseen_pair(scene.descriptions)


def deal(cards: Sequence[Card], generator: random.Random) -> Iterator[Card]:
    """The cards without end, shuffled anew after each round: each comes as often as any other, give or take one."""
    while True:
        yield from generator.sample(cards, len(cards))


class Lots:
    """Streams of lots without end; each deals its combinations evenly, so that none that training may show is missing."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator

    def one(self) -> Iterator[Lot]:
        """One object."""
        return ((each,) for each in deal(TAUGHT, self.generator))

    def unseen_one(self) -> Iterator[Lot]:
        """One object that is held out."""
        return ((each,) for each in deal(HELD_OUT, self.generator))

    def two(self) -> Iterator[Lot]:
        """Two objects of kinds that training shows together."""
        return (tuple(map(self._in_a_size, pair)) for pair in deal(TAUGHT_PAIRS, self.generator))

    def unseen_two(self) -> Iterator[Lot]:
        """In turn, an object that is held out beside one that is not, and three times a pair that is held out."""
        pairs = (tuple(map(self._in_a_size, pair)) for pair in deal(HELD_OUT_PAIRS, self.generator))
        for held_out in deal(HELD_OUT, self.generator):
            others = [each for each in TAUGHT if each.kind != held_out.kind and not is_unseen_pair((held_out, each))]
            yield held_out, self.generator.choice(others)
            yield from islice(pairs, 3)

    def _in_a_size(self, kind: Kind) -> Description:
        return self.generator.choice([each for each in TAUGHT if each.kind == kind])
