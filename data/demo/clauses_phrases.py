"""Draws phrases of the `clauses` set in both languages at once: subjects, objects, places and times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from data.demo.clauses_english import english_noun_phrase
from data.demo.clauses_french import Words, french_noun_phrase
from data.demo.clauses_lexicon import (
    ADJECTIVES,
    FIRST,
    FIRST_PLURAL,
    NAMES,
    NOUNS,
    THIRD,
    THIRD_PLURAL,
    Adjective,
    Noun,
    Tense,
    Verb,
)
from data.demo.clauses_numbers import LARGEST_NUMBER, MONTHS, date_words, english_number, french_number

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A phrase in both languages, with what verbs and participles agree with."""

    en: str
    """English text."""
    fr: Words
    """French words before elision."""
    person: int = THIRD
    """FIRST, THIRD, FIRST_PLURAL or THIRD_PLURAL."""
    feminine: bool = False
    """Gender in French."""
    plural: bool = False
    """Number."""
    noun: Noun | None = None
    """Its noun, if it has one."""
    ranks: tuple[int, ...] = ()
    """Ranks of its adjectives."""


_I = Phrase(en="I", fr=("je",), person=FIRST)
_WE = Phrase(en="we", fr=("nous",), person=FIRST_PLURAL, plural=True)
_HE = Phrase(en="he", fr=("il",))
_SHE = Phrase(en="she", fr=("elle",), feminine=True)
# Forms for I and we are theirs alone, those for he and she everybody else's too.
_PRONOUNS = (_I, _I, _I, _WE, _WE, _WE, _HE, _SHE)
_ASKED_PRONOUNS = (_WE, _WE, _HE, _SHE)
_NAMES = tuple(Phrase(en=name, fr=(name,), feminine=feminine) for name, feminine in NAMES)

Bag = tuple[str, ...]
"""Words to draw from; one that stands in it twice is drawn twice as often."""

# Determiners of a noun that anybody may have. `a` is `some` in the plural.
_AS_SUBJECT: Bag = (*["the"] * 8, "this", "this", "a", "my", "our", "number")
_AS_TOPIC: Bag = (*["the"] * 8, "this", "this", "my", "our")
AS_OBJECT: Bag = (*["the"] * 5, *["a"] * 5, "this", "my", "our", "number")
_AS_PLACE: Bag = (*["the"] * 8, "this", "a", "our")
_AS_PLACES: Bag = (*["the"] * 8, "this", "our")
_AS_GOAL: Bag = (*["the"] * 7, "this", "our")
_KNOWN: Bag = ("the", "the", "the", "the", "this")
_OWNED = ("animal", "object", "clothing", "vehicle", "text", "food")
FEW = 12
"""Largest number of things that one counts at a glance."""

# What can be beside what, in English and French, and the kinds of the noun after it.
_INSIDE = (("in", ("dans",), ("inside",)),)
_OUTSIDE = (("in", ("dans",), ("open",)),)
_BESIDE = (
    ("near", ("près", "de"), ("building", "outdoors")),
    ("behind", ("derrière",), ("building", "shelter")),
    ("in front of", ("devant",), ("building",)),
)
_UNDER = (("under", ("sous",), ("surface", "shelter")), ("on", ("sur",), ("surface",)))
_PLACES = {
    "person": _INSIDE + _BESIDE,
    "animal": _INSIDE + _BESIDE + _UNDER[:1],
    "crowd": _OUTSIDE + _BESIDE,
    "vehicle": _BESIDE,
    "item": _UNDER,
}


@cache
def _nouns_of(kinds: tuple[str, ...]) -> tuple[Noun, ...]:
    return tuple(noun for noun in NOUNS if any(kind in noun.kinds for kind in kinds))


@cache
def _adjectives_of(noun: Noun) -> tuple[Adjective, ...]:
    return tuple(adjective for adjective in ADJECTIVES if adjective.fits(noun))


@cache
def _without(bag: Bag, words: Bag) -> Bag:
    return tuple(word for word in bag if word not in words)


class PhraseMaker:
    """Draws phrases; `seen` collects the phenomena of those drawn since it was last cleared."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.seen: set[str] = set()

    def chance(self, share: float) -> bool:
        """True in this share of the calls."""
        return self.generator.random() < share

    def one_of(self, items: Sequence[Item]) -> Item:
        """One of the items, all alike."""
        return items[int(self.generator.random() * len(items))]

    def noun(self, kinds: tuple[str, ...]) -> Noun:
        """A noun of one of these kinds."""
        return self.one_of(_nouns_of(kinds))

    def number(self) -> int:
        """From 2 to 999: most below a hundred, where French is hardest; teens, ones and hundreds more than by chance."""
        draw = self.generator.random()
        if draw < 0.06:
            return 100 * self.one_of(range(1, 10))
        if draw < 0.16:
            return self.one_of(range(21, 100, 10))
        if draw < 0.3:
            return self.one_of(range(13, 20))
        return self.one_of(range(2, 100 if draw < 0.82 else LARGEST_NUMBER + 1))

    def adjectives(self, noun: Noun, *, bare: float = 0.6) -> list[Adjective]:
        """None, one, or two of which French puts one on either side of the noun."""
        if self.chance(bare):
            return []
        fitting = _adjectives_of(noun)
        before = [adjective for adjective in fitting if adjective.before]
        after = [adjective for adjective in fitting if not adjective.before]
        if before and after and self.chance(0.2):
            return [self.one_of(before), self.one_of(after)]
        return [self.one_of(fitting)] if fitting else []

    def noun_phrase(
        self,
        kinds: tuple[str, ...],
        determiners: Bag = AS_OBJECT,
        *,
        noun: Noun | None = None,
        plural: bool | None = None,
        number: int | None = None,
        bare: float = 0.6,
        negated: bool = False,
    ) -> Phrase:
        """A noun with determiner and adjectives.

        Args:
            kinds: kinds of nouns to draw from.
            determiners: what to draw the determiner from.
            noun: the noun, if it is settled.
            plural: its number, if it is settled.
            number: a number in place of the determiner.
            bare: share without an adjective.
            negated: the object of a negated verb, where `un` becomes `de` and quantities are avoided.
        """
        noun = noun or self.noun(kinds)
        if negated:
            determiners = _without(determiners, ("number",))
        determiner = "number" if number is not None else self._determiner(noun, determiners)
        if determiner == "number":
            number = number or self.one_of(range(2, FEW + 1))
            plural = True
        elif "one" in noun.kinds or (negated and determiner == "a"):
            plural = False
        elif plural is None:
            plural = self.chance(0.4)
        adjectives = self.adjectives(noun, bare=bare)
        if adjectives:
            self.seen.add("agreement")
        if any(not adjective.before for adjective in adjectives):
            self.seen.add("order")
        if noun.kinds[0] in _OWNED and determiner not in ("a", "number") and self.chance(0.12):
            return self._owned(noun, plural=plural, adjectives=adjectives)
        english, french, number_words = determiner, determiner, ""
        if number is not None:
            self.seen.add("number")
            english, number_words = english_number(number), french_number(number, feminine=noun.feminine)
            if number_words.endswith("une"):
                self.seen.add("agreement")
        elif determiner == "a":
            english = "some" if plural else "a"
            french = "no" if negated else english
        return Phrase(
            en=english_noun_phrase(english, noun, plural=plural, adjectives=adjectives),
            fr=french_noun_phrase(french, noun, plural=plural, adjectives=adjectives, number=number_words),
            person=THIRD_PLURAL if plural else THIRD,
            feminine=noun.feminine,
            plural=plural,
            noun=noun,
            ranks=tuple(adjective.rank for adjective in adjectives),
        )

    def _determiner(self, noun: Noun, determiners: Bag) -> str:
        # "ma femme" and "ma fille" are my wife and my daughter, and nobody says "this aunt".
        if noun.kinds[0] == "kin":
            return self.one_of(("my", "our"))
        if noun.kinds[0] in ("person", "child"):
            determiners = _without(determiners, ("my", "our"))
        return self.one_of(determiners)

    def _owned(self, noun: Noun, *, plural: bool, adjectives: Sequence[Adjective]) -> Phrase:
        """Anne's red car: la voiture rouge d'Anne."""
        self.seen.add("possession")
        owner = self.one_of(_NAMES) if self.chance(0.5) else self._plain_owner()
        return Phrase(
            en=english_noun_phrase(f"{owner.en}'s", noun, plural=plural, adjectives=adjectives),
            fr=(*french_noun_phrase("the", noun, plural=plural, adjectives=adjectives), "de", *owner.fr),
            person=THIRD_PLURAL if plural else THIRD,
            feminine=noun.feminine,
            plural=plural,
            noun=noun,
            ranks=tuple(adjective.rank for adjective in adjectives),
        )

    def _plain_owner(self) -> Phrase:
        noun = self.noun(("person", "child", "kin"))
        determiner = self._determiner(noun, ("the",))
        return Phrase(
            en=english_noun_phrase(determiner, noun, plural=False),
            fr=french_noun_phrase(determiner, noun, plural=False),
        )

    def subject(self, verb: Verb, *, plain: bool, gendered: bool = False) -> Phrase:
        """A subject that the verb takes.

        Args:
            verb: the verb.
            plain: a statement that denies nothing. What is denied or asked about is known: no `a`, no number, and nobody
                asks about himself.
            gendered: the clause shows the subject's gender, which `I` and `we` leave open.
        """
        if "person" in verb.subjects:
            if self.chance(0.42):
                return self.one_of((_HE, _SHE) if gendered else _PRONOUNS if plain else _ASKED_PRONOUNS)
            if self.chance(0.3):
                return self.one_of(_NAMES)
        return self.noun_phrase(verb.subjects, _AS_SUBJECT if plain else _AS_TOPIC, bare=0.65)

    def third_person(self) -> Phrase:
        """Somebody whose pronoun follows from the words: Anne, the old actors."""
        if self.chance(0.4):
            return self.one_of(_NAMES)
        return self.noun_phrase(("person", "kin", "youth"), _KNOWN, bare=0.65)

    def recipient(self) -> Phrase:
        """Somebody whom something is given to or said to."""
        if self.chance(0.3):
            return self.one_of(_NAMES)
        return self.noun_phrase(("person", "child", "kin"), ("the",), bare=0.8)

    def companion(self) -> Phrase:
        """With whom."""
        somebody = self.recipient()
        return Phrase(en=f"with {somebody.en}", fr=("avec", *somebody.fr))

    def goal(self) -> Phrase:
        """Where one goes, stays or comes back from, without preposition."""
        return self.noun_phrase(("goal",), _AS_GOAL, plural=False, bare=0.7)

    def place(self, who: str) -> Phrase:
        """Where a person, an animal, a vehicle or an item is: in the garden, under this table."""
        english, french, kinds = self.one_of(_PLACES[who])
        # One is in one place; and `de` before `des` would be neither.
        plural = english != "in" and self.chance(0.1)
        where = self.noun_phrase(kinds, _AS_PLACES if plural else _AS_PLACE, plural=plural, bare=0.75)
        return Phrase(en=f"{english} {where.en}", fr=(*french, *where.fr))

    def time(self, tense: Tense) -> Phrase:
        """When: now, a date, or the day beside today."""
        if tense == "present":
            return Phrase(en="now", fr=("maintenant",))
        if self.chance(0.35):
            return Phrase(en="yesterday", fr=("hier",)) if tense == "past" else Phrase(en="tomorrow", fr=("demain",))
        self.seen.add("date")
        month = self.one_of(range(1, len(MONTHS) + 1))
        day = self.one_of(range(1, MONTHS[month - 1][2] + 1))
        english, french = date_words(day, month)
        return Phrase(en=english, fr=tuple(french.split()))
