"""English phrases and clauses of the `clauses` set: articles, the order of adjectives, do-support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from data.demo.clauses_lexicon import PLURAL, SINGULAR, THIRD, Adjective, Noun, Tense, Verb

Negation = Literal["", "not", "never"]

_BE = ("am", "is", "are", "are")
_WAS = ("was", "was", "were", "were")
_DO = ("do", "does", "do", "do")


def english_noun_phrase(determiner: str, noun: Noun, *, plural: bool, adjectives: Sequence[Adjective] = ()) -> str:
    """Determiner (also a number or a possessor, Anne's), adjectives by rank, noun: a beautiful old red car."""
    ordered = sorted(adjectives, key=lambda adjective: adjective.rank)
    words = [*(adjective.en for adjective in ordered), noun.en[PLURAL if plural else SINGULAR]]
    if determiner == "a" and words[0][0] in "aeiouAEIOU":
        determiner = "an"
    if determiner == "this" and plural:
        determiner = "these"
    return " ".join([determiner, *words])


def english_be(person: int) -> str:
    """The present of `to be`."""
    return _BE[person]


def english_clause(
    subject: str,
    person: int,
    verb: Verb,
    *,
    tense: Tense,
    rest: Sequence[str] = (),
    after: Sequence[str] = (),
    negation: Negation = "",
    question: str | None = None,
) -> str:
    """A clause without capital and full stop.

    Args:
        subject: in words.
        person: FIRST, THIRD, FIRST_PLURAL or THIRD_PLURAL.
        verb: an action takes the progressive in the present, a state the simple form.
        tense: present, past or future (is going to).
        rest: objects, goals and places; the verb's preposition comes before them and not without them.
        after: what comes after those: company and time.
        negation: not, never or none.
        question: the question word, or empty for yes and no; None is a statement.
    """
    auxiliary, main = _forms(verb, person, tense)
    if not auxiliary and (negation == "not" or question is not None):
        auxiliary, main = "did" if tense == "past" else _DO[person], verb.base
    words = [auxiliary, negation, main] if question is None else [question, auxiliary, subject, negation, main]
    if question is None:
        words.insert(0, subject)
    return " ".join(word for word in [*words, verb.particle if rest else "", *rest, *after] if word)


def _forms(verb: Verb, person: int, tense: Tense) -> tuple[str, str]:
    """Auxiliary, or nothing, and the form of the verb."""
    assert tense in verb.tenses, verb.infinitive
    if tense == "future":
        return _BE[person], f"going to {verb.base}"
    if tense == "past":
        return "", verb.past
    if verb.progressive:
        return _BE[person], verb.progressive
    return "", verb.third if person == THIRD else verb.base
