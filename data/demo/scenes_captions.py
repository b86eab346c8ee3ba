"""The captions of the `scenes` set: a grammar of a few sentence frames, to write captions and to read them.

A caption of the grammar names objects with size, colour and shape: one, and the background; or two, and where the one
lies from the other (and in some frames the background). Reading gives back exactly what was meant: no caption has two
meanings.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from functools import cached_property

from data.demo.scenes_objects import BACKGROUNDS, COLOURS, OPPOSITE, SHAPES, Description, Scene

_Lexicon = dict[str, tuple[str, ...]]


def _plain(words: tuple[str, ...]) -> _Lexicon:
    return {word: (word,) for word in words}


# Meaning -> what is said for it, one of these at random: so a word that stands twice is said more often.
_SIZES: _Lexicon = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
_COLOURS = _plain(COLOURS)
_SHAPES: _Lexicon = {**_plain(SHAPES), "circle": ("circle", "circle", "disc")}
_GROUNDS = _plain(BACKGROUNDS)
_RELATIONS: _Lexicon = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_SIDES: _Lexicon = {
    "left": ("to its left",),
    "right": ("to its right",),
    "above": ("above it",),
    "below": ("below it",),
}
_MEANINGS = {
    said: meaning
    for lexicon in (_SIZES, _COLOURS, _SHAPES, _GROUNDS, _RELATIONS, _SIDES)
    for meaning, variants in lexicon.items()
    for said in variants
}


_SLOTS = {"relation": _RELATIONS, "side": _SIDES, "ground": _GROUNDS}


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a caption says."""

    objects: tuple[Description, ...]
    """The objects in the order in which they are mentioned; a caption mentions all there are."""
    relation: str | None = None
    """Where the first of two is, seen from the second: a key of `OPPOSITE`."""
    background: str | None = None
    """One of `BACKGROUNDS`, or None where the caption leaves it open."""


@dataclass(frozen=True)
class Frame:
    """A sentence with slots: {a} and {b} for objects, {relation} of a to b or {side} of b from a, {ground}."""

    template: str
    """The sentence."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the frame can be, with the slots as groups."""
        slots = {slot: _one_of(lexicon, slot) for slot, lexicon in _SLOTS.items()}
        described = " ".join(_one_of(lexicon, None) for lexicon in (_SIZES, _COLOURS, _SHAPES))
        slots |= {slot: f"a (?P<{slot}>{described})" for slot in ("a", "b")}
        return re.compile(self.template.format(**slots))

    def read(self, caption: str) -> Meaning | None:
        """What a caption of this frame says; None for any other."""
        found = self.pattern.fullmatch(caption)
        if found is None:
            return None
        said = found.groupdict()
        objects = tuple(
            Description(*(_MEANINGS[word] for word in said[slot].split())) for slot in ("a", "b") if slot in said
        )
        meant = {slot: _MEANINGS[said[slot]] for slot in _SLOTS if slot in said}
        relation = OPPOSITE[meant["side"]] if "side" in meant else meant.get("relation")
        return Meaning(objects=objects, relation=relation, background=meant.get("ground"))

    def write(self, meaning: Meaning, generator: random.Random) -> str:
        """A caption of this frame, its synonyms drawn from the generator."""

        def say(lexicon: _Lexicon, word: str | None) -> str:
            return "" if word is None else generator.choice(lexicon[word])

        slots = {
            slot: f"a {say(_SIZES, each.size)} {say(_COLOURS, each.colour)} {say(_SHAPES, each.shape)}"
            for slot, each in zip("ab", meaning.objects, strict=False)
        }
        return self.template.format(
            **slots,
            relation=say(_RELATIONS, meaning.relation),
            side=say(_SIDES, meaning.relation and OPPOSITE[meaning.relation]),
            ground=say(_GROUNDS, meaning.background),
        )


def _one_of(lexicon: _Lexicon, group: str | None) -> str:
    said = "|".join(dict.fromkeys(text for variants in lexicon.values() for text in variants))
    return f"(?:{said})" if group is None else f"(?P<{group}>{said})"


FRAMES = {
    1: (
        Frame("{a} on {ground}"),
        Frame("{a} on a {ground} background"),
        Frame("there is {a} on a {ground} background"),
        Frame("we see {a} on {ground}"),
        Frame("a {ground} background with {a}"),
        Frame("only {a} on a {ground} background"),
    ),
    2: (
        Frame("{a} {relation} {b}"),
        Frame("{a} is {relation} {b}"),
        Frame("there is {a} {relation} {b}"),
        Frame("we see {a} {relation} {b}"),
        Frame("{a} {relation} {b} on {ground}"),
        Frame("{a} with {b} {side}"),
        Frame("there is {a} with {b} {side}"),
    ),
}
"""Number of objects -> the frames for so many."""
NUM_CAPTIONS = 5
"""Captions of a scene, each of another frame."""
NUM_FIRST_LEADING = 4
"""Captions of a scene of two that begin with the left or upper object; the rest begin with the other one."""


def parse(caption: str) -> Meaning | None:
    """What a caption says; None where it is none of the grammar.

    The grammar is lower case, one space between words, no stop at the end.
    """
    for frames in FRAMES.values():
        for frame in frames:
            meaning = frame.read(caption)
            if meaning is not None:
                return meaning
    return None


def meaning_of(scene: Scene) -> Meaning:
    """All that can be said of a scene, the first object first."""
    return Meaning(objects=scene.descriptions, relation=scene.relation, background=scene.background)


def turned(meaning: Meaning) -> Meaning:
    """The same, the objects of two mentioned the other way round."""
    relation = None if meaning.relation is None else OPPOSITE[meaning.relation]
    return replace(meaning, objects=meaning.objects[::-1], relation=relation)


def captions_of(scene: Scene, generator: random.Random) -> tuple[str, ...]:
    """Five captions, all true of the scene and no two of one frame; 6 to 14 words each."""
    meaning = meaning_of(scene)
    frames = generator.sample(FRAMES[len(scene.objects)], NUM_CAPTIONS)
    told = [meaning] * NUM_FIRST_LEADING + [turned(meaning)] * (NUM_CAPTIONS - NUM_FIRST_LEADING)
    generator.shuffle(told)
    return tuple(frame.write(each, generator) for frame, each in zip(frames, told, strict=True))
