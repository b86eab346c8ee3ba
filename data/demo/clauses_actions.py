"""Draws the sentences of the `clauses` set in which somebody does something: objects, clitics, recipients, places, goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from data.demo.clauses_english import Negation, english_clause
from data.demo.clauses_french import Words, begins_with_vowel, french_clause
from data.demo.clauses_lexicon import FIRST, FIRST_PLURAL, NOUNS, THIRD, THIRD_PLURAL, VERBS, Noun, Tense, Verb
from data.demo.clauses_phrases import AS_OBJECT, Bag, Phrase, PhraseMaker


class Clause(NamedTuple):
    """A clause in both languages, without capital and full stop."""

    en: str
    """English text."""
    fr: Words
    """French words before contraction and elision."""
    is_question: bool = False
    """How it ends."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an action is told."""

    tense: Tense
    """When it happens."""
    negation: Negation = ""
    """Whether it is denied."""
    question: str | None = None
    """Question word, empty for yes and no; None is a statement."""

    @property
    def is_plain(self) -> bool:
        """A statement that denies nothing."""
        return not self.negation and self.question is None


@dataclass(frozen=True, kw_only=True)
class ObjectPronoun:
    """An object pronoun in both languages."""

    phrase: Phrase
    """English and agreement; in French it is a clitic, and its place is empty."""
    direct: str
    """French direct object."""
    indirect: str
    """French object with `à`; empty where it would be taken for another."""

    def overlaps(self, subject: Phrase) -> bool:
        """Whether the subject is part of it: I see me, we give me."""
        return self.phrase.person in (FIRST, FIRST_PLURAL) and subject.person in (FIRST, FIRST_PLURAL)

    def determines(self, subject: Phrase, verb: Verb, tense: Tense) -> bool:
        """Whether, as a direct object, English has one French form, and the French form one meaning.

        A participle agrees, so that `them` would leave its gender open and only `him` and `her` come before one. Where `la`
        is elided nothing else tells her from him.
        """
        if self.overlaps(subject):
            return False
        if tense == "past":
            return self.phrase.person == THIRD
        following = verb.infinitive if tense == "future" else verb.present[subject.person]
        return self.direct != "la" or not begins_with_vowel(following)


_PRONOUNS = (
    ObjectPronoun(phrase=Phrase(en="me", fr=(), person=FIRST), direct="me", indirect="me"),
    ObjectPronoun(phrase=Phrase(en="us", fr=(), person=FIRST_PLURAL, plural=True), direct="nous", indirect="nous"),
    ObjectPronoun(phrase=Phrase(en="him", fr=()), direct="le", indirect="lui"),
    ObjectPronoun(phrase=Phrase(en="her", fr=(), feminine=True), direct="la", indirect=""),
    ObjectPronoun(phrase=Phrase(en="them", fr=(), person=THIRD_PLURAL, plural=True), direct="les", indirect="leur"),
)


def _verbs(infinitives: str) -> tuple[Verb, ...]:
    return tuple(VERBS[infinitive] for infinitive in infinitives.split())


_TRANSITIVE = _verbs(
    "voir aimer vouloir connaître avoir regarder chercher attendre aider appeler lire manger acheter vendre "
    "trouver perdre laver ouvrir fermer porter"
)
_WITH_PERSON = _verbs("voir aimer connaître regarder chercher attendre aider appeler")
_GIVING = _verbs("donner envoyer vendre")
_INTRANSITIVE = _verbs("dormir travailler jouer chanter danser")
_MOVING = _verbs("arriver partir aller rester tomber revenir")
_GOALS = {"arriver": "à", "aller": "à", "rester": "à", "revenir": "de"}
_NEED_GOAL = ("aller", "rester")


def _in_turn(infinitives: str) -> tuple[Verb, Verb, tuple[Noun, ...]]:
    """Two things that one does one after the other, and the nouns of what they are done to."""
    first, second = _verbs(infinitives)
    return first, second, tuple(noun for noun in NOUNS if first.takes(noun) and second.takes(noun))


_IN_TURN = (
    _in_turn("acheter manger"),
    _in_turn("trouver manger"),
    _in_turn("laver manger"),
    _in_turn("acheter lire"),
    _in_turn("trouver lire"),
    _in_turn("acheter vendre"),
    _in_turn("trouver vendre"),
    _in_turn("laver vendre"),
    _in_turn("acheter perdre"),
    _in_turn("trouver perdre"),
    _in_turn("ouvrir fermer"),
)
_TENSE_WEIGHTS: dict[Tense, int] = {"present": 5, "past": 5, "future": 3}
_QUESTION_WORDS: dict[str, Words] = {"": (), "why": ("pourquoi",), "when": ("quand",), "where": ("où",)}
_KNOWN: Bag = ("the", "the", "the", "the", "this", "our")
_FOUND: Bag = ("the", "the", "the", "a", "a", "a", "this", "our")


@cache
def _often(tenses: tuple[Tense, ...]) -> tuple[Tense, ...]:
    return tuple(tense for tense in tenses for _ in range(_TENSE_WEIGHTS[tense]))


class ActionMaker(PhraseMaker):
    """Draws clauses about actions."""

    def manner(self, verb: Verb, *, question_words: Sequence[str] = ("", "why", "when")) -> Manner:
        """A tense that the verb has, and at times a negation or a question."""
        tense = self.one_of(_often(verb.tenses))
        self.seen.add(tense)
        draw = self.generator.random()
        if draw < 0.28:
            self.seen.add("negation")
            return Manner(tense=tense, negation="never" if tense == "past" and draw < 0.08 else "not")
        if draw < 0.43:
            self.seen.add("question")
            word = self.one_of(question_words) if self.chance(0.6) else ""
            return Manner(tense=tense, question="" if word == "when" and tense == "present" else word)
        return Manner(tense=tense)

    def times(self, verb: Verb, manner: Manner, share: float) -> list[Phrase]:
        """At times a date, a day or now, where the clause leaves room for one."""
        fits = manner.negation != "never" and manner.question != "when"
        if manner.tense == "present":
            fits = bool(verb.progressive)
        return [self.time(manner.tense)] if fits and self.chance(share) else []

    def clause(
        self,
        subject: Phrase,
        verb: Verb,
        manner: Manner,
        *,
        rest: Sequence[Phrase] = (),
        after: Sequence[Phrase] = (),
        clitic: str = "",
        agrees_with: Phrase | None = None,
    ) -> Clause:
        """A clause in both languages.

        Args:
            subject: who does it.
            verb: what is done.
            manner: when, and whether it is denied or asked.
            rest: objects, goals and places.
            after: what comes after those: company and time.
            clitic: a French object pronoun, whose English is in `rest`.
            agrees_with: what the participle with avoir agrees with: a direct object before it.
        """
        agrees_with = subject if verb.auxiliary == "être" else agrees_with
        if manner.tense == "past" and agrees_with is not None:
            self.seen.add("agreement")
        english = english_clause(
            subject.en,
            subject.person,
            verb,
            tense=manner.tense,
            rest=[phrase.en for phrase in rest],
            after=[phrase.en for phrase in after],
            negation=manner.negation,
            question=manner.question,
        )
        french = french_clause(
            subject.fr,
            subject.person,
            verb,
            tense=manner.tense,
            rest=tuple(word for phrase in (*rest, *after) for word in phrase.fr),
            clitic=clitic,
            negation=manner.negation,
            feminine=agrees_with is not None and agrees_with.feminine,
            plural=agrees_with is not None and agrees_with.plural,
        )
        if manner.question is None:
            return Clause(english, french)
        return Clause(english, (*_QUESTION_WORDS[manner.question], "est-ce", "que", *french), is_question=True)

    def transitive(self) -> Clause:
        """Anne did not read the letter."""
        verb = self.one_of(_TRANSITIVE)
        manner = self.manner(verb)
        subject = self.subject(verb, plain=manner.is_plain)
        # One loves what one knows.
        determiners = _KNOWN if verb.infinitive == "aimer" else AS_OBJECT
        thing = self.noun_phrase(verb.objects, determiners, negated=bool(manner.negation))
        return self.clause(subject, verb, manner, rest=[thing], after=self.times(verb, manner, 0.15))

    def with_clitic(self) -> Clause:
        """She does not see him: elle ne le voit pas."""
        verb = self.one_of(_WITH_PERSON)
        manner = self.manner(verb)
        subject = self.subject(verb, plain=manner.is_plain)
        self.seen.add("clitic")
        pronoun = self.one_of([each for each in _PRONOUNS if each.determines(subject, verb, manner.tense)])
        return self.clause(
            subject,
            verb,
            manner,
            rest=[pronoun.phrase],
            after=self.times(verb, manner, 0.2),
            clitic=pronoun.direct,
            agrees_with=pronoun.phrase,
        )

    def _recipient_pronoun(self, subject: Phrase) -> ObjectPronoun:
        """Somebody to whom something is given; not `her`, which `lui` would not tell from `him`."""
        self.seen.add("clitic")
        return self.one_of([each for each in _PRONOUNS if each.indirect and not each.overlaps(subject)])

    def giving(self) -> Clause:
        """The king gave the horse to the queen; he gave us a horse."""
        verb = self.one_of(_GIVING)
        manner = self.manner(verb)
        subject = self.subject(verb, plain=manner.is_plain)
        thing = self.noun_phrase(verb.objects, bare=0.6, negated=bool(manner.negation))
        times = self.times(verb, manner, 0.1)
        if self.chance(0.5):
            pronoun = self._recipient_pronoun(subject)
            rest = [pronoun.phrase, thing]
            return self.clause(subject, verb, manner, rest=rest, after=times, clitic=pronoun.indirect)
        recipient = self.recipient()
        to = replace(recipient, en=f"to {recipient.en}", fr=("à", *recipient.fr))
        return self.clause(subject, verb, manner, rest=[thing, to], after=times)

    def talking(self) -> Clause:
        """Paul is talking to the girls; Paul is talking to them."""
        verb = VERBS["parler"]
        manner = self.manner(verb)
        subject = self.subject(verb, plain=manner.is_plain)
        times = self.times(verb, manner, 0.2)
        if self.chance(0.5):
            pronoun = self._recipient_pronoun(subject)
            return self.clause(subject, verb, manner, rest=[pronoun.phrase], after=times, clitic=pronoun.indirect)
        recipient = self.recipient()
        return self.clause(subject, verb, manner, rest=[replace(recipient, fr=("à", *recipient.fr))], after=times)

    def intransitive(self) -> Clause:
        """The cat is sleeping under the table."""
        verb = self.one_of(_INTRANSITIVE)
        manner = self.manner(verb, question_words=("", "why", "when", "where"))
        subject = self.subject(verb, plain=manner.is_plain)
        who = "animal" if subject.noun is not None and "animal" in subject.noun.kinds else "person"
        places = [] if manner.question == "where" or self.chance(0.25) else [self.place(who)]
        company = [self.companion()] if who == "person" and self.chance(0.2) else []
        return self.clause(subject, verb, manner, rest=places, after=[*company, *self.times(verb, manner, 0.15)])

    def moving(self) -> Clause:
        """The girls came back from the museum with Anne: les filles sont revenues du musée avec Anne."""
        verb = self.one_of(_MOVING)
        manner = self.manner(verb)
        subject = self.subject(verb, plain=manner.is_plain, gendered=manner.tense == "past")
        rest = []
        if verb.infinitive in _NEED_GOAL or (verb.infinitive in _GOALS and self.chance(0.6)):
            goal = self.goal()
            rest.append(replace(goal, fr=(_GOALS[verb.infinitive], *goal.fr)))
        company = [self.companion()] if verb.infinitive != "tomber" and self.chance(0.3) else []
        return self.clause(subject, verb, manner, rest=rest, after=[*company, *self.times(verb, manner, 0.4)])

    def doing_twice(self) -> Clause:
        """Anne bought the apples and she ate them: et elle les a mangées."""
        first, second, nouns = self.one_of(_IN_TURN)
        subject = self.third_person()
        thing = self.noun_phrase((), _FOUND, noun=self.one_of(nouns), bare=0.7)
        self.seen.update(("past", "clitic", "pronoun"))
        past = Manner(tense="past")
        told = self.clause(subject, first, past, rest=[thing])
        clitic = "les" if thing.plural else "la" if thing.feminine else "le"
        again = self.clause(
            pronoun_of(subject),
            second,
            past,
            rest=[replace(thing, en="them" if thing.plural else "it", fr=())],
            clitic=clitic,
            agrees_with=thing,
        )
        return Clause(f"{told.en} and {again.en}", (*told.fr, "et", *again.fr))


def pronoun_of(phrase: Phrase) -> Phrase:
    """The subject pronoun that takes up a phrase."""
    is_person = phrase.noun is None or any(kind in ("person", "child", "kin") for kind in phrase.noun.kinds)
    if phrase.plural:
        english, french = "they", "elles" if phrase.feminine else "ils"
    elif phrase.feminine:
        english, french = "she" if is_person else "it", "elle"
    else:
        english, french = "he" if is_person else "it", "il"
    return replace(phrase, en=english, fr=(french,))
