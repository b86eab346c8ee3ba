"""Draws sentences of the `clauses` set, of all kinds: actions, descriptions, counts, prices, ages."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

from data.demo.clauses_actions import ActionMaker, Clause, pronoun_of
from data.demo.clauses_english import english_be
from data.demo.clauses_french import Words, agreeing, contract, french_be, french_clause, french_text
from data.demo.clauses_lexicon import ADJECTIVES, VERBS, Adjective, Noun
from data.demo.clauses_numbers import english_number, french_number
from data.demo.clauses_phrases import FEW, Bag, Phrase

PHENOMENA = (
    "present",
    "past",
    "future",
    "agreement",
    "order",
    "negation",
    "question",
    "clitic",
    "pronoun",
    "possession",
    "number",
    "date",
    "elision",
    "contraction",
)
"""What a sentence may show, in the order in which it is listed; `data/demo/README.md` explains each."""

_DESCRIBED = ("animal", "clothing", "object", "vehicle", "building", "text", "opening", "food")
_DESCRIBING: Bag = (*["the"] * 6, "this", "this", "my", "our")
_YOUNGEST, _OLDEST = 18, 99


class Pair(NamedTuple):
    """A sentence in both languages."""

    en: str
    """English."""
    fr: str
    """Its one French translation."""
    phenomena: str
    """What it shows: some of `PHENOMENA`, comma-separated."""


@cache
def _predicates_of(noun: Noun | None) -> tuple[Adjective, ...]:
    """Of a person called by name they are those of relatives."""
    return tuple(
        adjective
        for adjective in ADJECTIVES
        if adjective.predicate and (adjective.fits(noun) if noun is not None else "kin" in adjective.kinds)
    )


class SentenceMaker(ActionMaker):
    """Draws sentences."""

    def __init__(self, generator: random.Random) -> None:
        super().__init__(generator)
        weights = {
            self.transitive: 30,
            self.with_clitic: 19,
            self.giving: 9,
            self.talking: 4,
            self.intransitive: 12,
            self.moving: 14,
            self.doing_twice: 7,
            self.being: 8,
            self.being_twice: 6,
            self.there_is: 9,
            self.price: 8,
            self.age: 4,
        }
        self._kinds = [kind for kind, weight in weights.items() for _ in range(weight)]

    def draw(self) -> Pair:
        """A sentence of any kind."""
        self.seen.clear()
        clause = self.one_of(self._kinds)()
        words = contract(clause.fr)
        if words != clause.fr:
            self.seen.add("contraction")
        french = french_text(words)
        if "'" in french:
            self.seen.add("elision")
        phenomena = ",".join(name for name in PHENOMENA if name in self.seen)
        if clause.is_question:
            return Pair(f"{_capital(clause.en)}?", f"{_capital(french)} ?", phenomena)
        return Pair(f"{_capital(clause.en)}.", f"{_capital(french)}.", phenomena)

    def being(self) -> Clause:
        """The window is not green."""
        subject = self._described(bare=0.75)
        adjective = self._predicate(subject)
        self.seen.update(("present", "agreement"))
        verb = english_be(subject.person)
        draw = self.generator.random()
        if draw < 0.15:
            self.seen.add("question")
            french = ("est-ce", "que", *_is(subject, adjective))
            return Clause(f"{verb} {subject.en} {adjective.en}", french, is_question=True)
        if draw < 0.35:
            self.seen.add("negation")
            return Clause(f"{subject.en} {verb} not {adjective.en}", _is(subject, adjective, negated=True))
        return Clause(f"{subject.en} {verb} {adjective.en}", _is(subject, adjective))

    def _described(self, *, bare: float) -> Phrase:
        if self.chance(0.25):
            return self.third_person()
        return self.noun_phrase(_DESCRIBED, _DESCRIBING, bare=bare)

    def _predicate(self, subject: Phrase, *, said: tuple[int, ...] = ()) -> Adjective:
        """What can be said of a subject, but not of a rank that has been said: big and small exclude each other."""
        ranks = (*subject.ranks, *said)
        return self.one_of([adjective for adjective in _predicates_of(subject.noun) if adjective.rank not in ranks])

    def being_twice(self) -> Clause:
        """The house is old but it is beautiful: elle, since maison is feminine."""
        subject = self._described(bare=1.0)
        first = self._predicate(subject)
        second = self._predicate(subject, said=(first.rank,))
        self.seen.update(("present", "agreement", "pronoun"))
        english, french = self.one_of((("and", "et"), ("but", "mais")))
        again = pronoun_of(subject)
        verb = english_be(subject.person)
        return Clause(
            f"{subject.en} {verb} {first.en} {english} {again.en} {verb} {second.en}",
            (*_is(subject, first), french, *_is(again, second)),
        )

    def there_is(self) -> Clause:
        """There are eighty-one cows behind the castle."""
        self.seen.add("present")
        who = self.one_of(("person", "animal", "animal", "vehicle", "item"))
        kinds = ("food", "readable", "clothing", "plant") if who == "item" else (who,)
        if self.chance(0.15):
            self.seen.add("negation")
            thing = self.noun_phrase(kinds, ("a",), bare=0.8, negated=True)
            place = self.place(who)
            _, english = thing.en.split(maxsplit=1)
            return Clause(f"there is no {english} {place.en}", ("il", "ne", "y", "a", "pas", *thing.fr, *place.fr))
        if self.chance(0.6):
            number = None if who == "item" else self.number()
            thing = self.noun_phrase(kinds, ("number",), number=number, bare=0.8)
            place = self.place("crowd" if number is not None and number > FEW else who)
        else:
            thing = self.noun_phrase(kinds, ("a",), bare=0.8)
            place = self.place(who)
        return Clause(f"there {english_be(thing.person)} {thing.en} {place.en}", ("il", "y", "a", *thing.fr, *place.fr))

    def price(self) -> Clause:
        """The shirts do not cost forty euros."""
        verb = VERBS["coûter"]
        subject = self.noun_phrase(verb.subjects, ("the", "the", "this"), bare=0.7)
        self.seen.add("number")
        number = self.number()
        euros = Phrase(en=f"{english_number(number)} euros", fr=(*french_number(number).split(), "euros"))
        return self.clause(subject, verb, self.manner(verb, question_words=("",)), rest=[euros])

    def age(self) -> Clause:
        """My aunt is thirty-one years old: elle a trente et un ans."""
        subject = self.subject(VERBS["parler"], plain=False) if self.chance(0.5) else self.third_person()
        self.seen.update(("present", "number"))
        number = self.one_of(range(_YOUNGEST, _OLDEST + 1))
        english = f"{subject.en} {english_be(subject.person)} {english_number(number)} years old"
        years = (*french_number(number).split(), "ans")
        return Clause(english, french_clause(subject.fr, subject.person, VERBS["avoir"], tense="present", rest=years))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _is(subject: Phrase, adjective: Adjective, *, negated: bool = False) -> Words:
    """A French clause with être and an adjective that agrees with the subject."""
    verb = french_be(subject.person)
    form = agreeing(adjective, feminine=subject.feminine, plural=subject.plural)
    return (*subject.fr, *(("ne", verb, "pas") if negated else (verb,)), form)
