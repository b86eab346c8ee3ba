"""French phrases and clauses of the `clauses` set: agreement, clitics, negation, elision and contraction."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from data.demo.clauses_english import Negation
from data.demo.clauses_lexicon import PLURAL, SINGULAR, Adjective, Noun, Tense, Verb

Words = tuple[str, ...]
"""Words before elision and contraction; an apostrophe appears only in `french_text`."""

_AVOIR = ("ai", "a", "avons", "ont")
_ETRE = ("suis", "est", "sommes", "sont")
_ALLER = ("vais", "va", "allons", "vont")
_NEGATIVES = {"not": "pas", "never": "jamais"}
# Words that a vowel shortens, and words that begin with one, or with an h, as if they did not.
_ELIDED = frozenset({"le", "la", "de", "ne", "je", "me", "que"})
_ASPIRATED = frozenset({"hibou", "hiboux", "huit", "onze"})
_CONTRACTED = {("à", "le"): "au", ("à", "les"): "aux", ("de", "le"): "du", ("de", "les"): "des"}


@cache
def begins_with_vowel(word: str) -> bool:
    """Whether a word elides the one before it: by sound, so that a mute h counts as nothing (l'homme, le hibou)."""
    first = unicodedata.normalize("NFD", word.lower())[0]
    return first in "aeiouyœh" and word.lower() not in _ASPIRATED


def agreeing(adjective: Adjective, *, feminine: bool, plural: bool) -> str:
    """The form of an adjective that does not stand before a vowel."""
    return adjective.fr[feminine][PLURAL if plural else SINGULAR]


def agreeing_participle(verb: Verb, *, feminine: bool, plural: bool) -> str:
    """The past participle in gender and number."""
    return verb.participle + ("e" if feminine else "") + ("s" if plural else "")


def french_noun_phrase(
    determiner: str, noun: Noun, *, plural: bool, adjectives: Sequence[Adjective] = (), number: str = ""
) -> Words:
    """Determiner, adjectives before the noun, the noun, adjectives after it.

    Args:
        determiner: the English one: the, a, some, this, my, our; no for the `de` of a negated object; or a number.
        noun: the noun.
        plural: its number.
        adjectives: all agree with it.
        number: the French words of a number that stands for the determiner.
    """
    before = [adjective for adjective in adjectives if adjective.before]
    after = [agreeing(each, feminine=noun.feminine, plural=plural) for each in adjectives if not each.before]
    words = [noun.fr[PLURAL if plural else SINGULAR]]
    for adjective in reversed(before):
        form = agreeing(adjective, feminine=noun.feminine, plural=plural)
        if not plural and not noun.feminine and begins_with_vowel(words[0]):
            form = adjective.before_vowel
        words.insert(0, form)
    if number:
        head = number
    elif determiner == "some":
        head = "de" if before else "des"
    else:
        head = _determiner(determiner, feminine=noun.feminine, plural=plural, vowel=begins_with_vowel(words[0]))
    return (*head.split(), *words, *after)


def _determiner(determiner: str, *, feminine: bool, plural: bool, vowel: bool) -> str:
    if plural:
        return {"the": "les", "this": "ces", "my": "mes", "our": "nos"}[determiner]
    masculine_form, feminine_form = {
        "the": ("le", "la"),
        "a": ("un", "une"),
        "this": ("cet" if vowel else "ce", "cette"),
        "my": ("mon", "mon" if vowel else "ma"),
        "our": ("notre", "notre"),
        "no": ("de", "de"),
    }[determiner]
    return feminine_form if feminine else masculine_form


def french_be(person: int) -> str:
    """The present of être."""
    return _ETRE[person]


def french_clause(
    subject: Words,
    person: int,
    verb: Verb,
    *,
    tense: Tense,
    rest: Words = (),
    clitic: str = "",
    negation: Negation = "",
    feminine: bool = False,
    plural: bool = False,
) -> Words:
    """A clause: passé composé for the past, aller and the infinitive for the future.

    Args:
        subject: in words.
        person: FIRST, THIRD, FIRST_PLURAL or THIRD_PLURAL.
        verb: the verb.
        tense: present, past or future.
        rest: what follows the verb.
        clitic: object pronoun (le, la, les, lui, leur, me, nous), before the verb that it belongs to.
        negation: ne ... pas or ne ... jamais, around the conjugated verb.
        feminine: gender of what the participle agrees with: the subject (être) or the clitic (avoir).
        plural: number of the same.
    """
    if tense == "past":
        auxiliary = (_AVOIR if verb.auxiliary == "avoir" else _ETRE)[person]
        finite = [clitic, auxiliary]
        rest = (agreeing_participle(verb, feminine=feminine, plural=plural), *rest)
    elif tense == "future":
        finite = [_ALLER[person]]
        rest = (clitic, verb.infinitive, *rest)
    else:
        finite = [clitic, verb.present[person]]
    if negation:
        finite = ["ne", *finite, _NEGATIVES[negation]]
    return tuple(word for word in (*subject, *finite, *rest) if word)


def contract(words: Words) -> Words:
    """à + le = au, de + les = des and so on; a vowel after the article keeps them apart (à l'école)."""
    contracted: list[str] = []
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        pair = (contracted[-1], word) if contracted else ("", "")
        elided = word == "le" and following and begins_with_vowel(following)
        if pair in _CONTRACTED and not elided:
            contracted[-1] = _CONTRACTED[pair]
        else:
            contracted.append(word)
    return tuple(contracted)


def french_text(words: Words) -> str:
    """Joins contracted words, with elision before a vowel: je + aime = j'aime."""
    text = ""
    for word, following in zip(words, (*words[1:], ""), strict=True):
        elided = word in _ELIDED and following and begins_with_vowel(following)
        text += f"{word[:-1]}'" if elided else f"{word} "
    return text.rstrip()
