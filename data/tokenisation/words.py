"""Whole words as pieces, with a vocabulary of `torchtext`."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, Literal

from data.tokenisation.base import SPECIALS, UNK, Text, TextConfig
from data.tokenisation.normalisation import COMPOSED, Normalisation

Tokeniser = Literal["punctuation", "spaces", "unpunctuated", "basic_english"]
TOKENISERS = ("punctuation", "spaces", "unpunctuated", "basic_english")
# Says on which side a mark stood without a space, so that text comes back (the joiner of OpenNMT's tokeniser).
JOINER = "\N{HALFWIDTH BLACK SQUARE}"


@dataclass(frozen=True)
class Words(TextConfig):
    """Whole words; one that is rare in the training text becomes `<unk>`."""

    max_size: int | None = None
    """Words at most, the most frequent first, beside the four special tokens; null = all that are frequent enough."""
    min_frequency: int = 2
    """How often a word must stand in the training text."""
    tokeniser: Tokeniser = "punctuation"
    """punctuation: marks are words of their own, and decoding puts them back where they were; spaces: words as they are;
    unpunctuated: without the marks at either end of a word, and no word that is nothing else, as captions are compared;
    basic_english: torchtext's, which lower-cases and drops some marks, so that decoded text can only look like the original."""
    vectors: str | None = None
    """File of word vectors to begin with (a word and its numbers a line, as of GloVe and fastText); null = none."""
    normalisation: Normalisation = COMPOSED
    """What happens to a line first."""

    def __post_init__(self) -> None:
        if self.tokeniser not in TOKENISERS:
            raise ValueError(f"tokeniser is {self.tokeniser!r}. Known: {', '.join(TOKENISERS)}.")
        if self.min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {self.min_frequency}.")
        if self.max_size is not None and self.max_size < 1:
            raise ValueError(f"max_size must be at least 1 word, or null for no limit, got {self.max_size}.")

    def build(self, lines: Sequence[str]) -> WordText:
        """The vocabulary of these lines; equally frequent words in the order of their letters."""
        from torchtext.vocab import Vocab

        split = _splitter(self.tokeniser)
        words = Counter(word for line in lines for word in self.normalisation.words(line))
        tokens: Counter[str] = Counter()
        for word, count in words.items():
            for token in split(word):
                tokens[token] += count
        vocabulary = Vocab(tokens, max_size=self.max_size, min_freq=self.min_frequency, specials=list(SPECIALS))
        pieces = vocabulary.itos[len(SPECIALS) :]
        if not pieces:
            raise ValueError(
                f"None of the {len(tokens)} different words of the training text stands in it min_frequency="
                f"{self.min_frequency} times. Lower min_frequency."
            )
        return WordText(pieces, tokeniser=self.tokeniser, normalisation=self.normalisation)

    def to_plain(self) -> dict[str, Any]:
        """Not vectors, which the vocabulary does not depend on."""
        settings = asdict(self)
        del settings["vectors"]
        return {"class": "Words", **settings}


class WordText(Text):
    """Text split into words.

    Args:
        pieces: the vocabulary behind the special tokens.
        tokeniser: what counts as a word.
        normalisation: what happens to a line first.
    """

    kind = "Words"

    def __init__(self, pieces: Sequence[str], *, tokeniser: Tokeniser, normalisation: Normalisation) -> None:
        super().__init__(pieces, normalisation=normalisation)
        self.tokeniser = tokeniser

    @cached_property
    def _numbers(self) -> dict[str, int]:
        # Only from the end of the special tokens on: a text that spells "<pad>" has no padding in it.
        return {piece: number for number, piece in enumerate(self.pieces) if number > UNK}

    def split_words(self, words: list[str]) -> list[Sequence[int]]:
        """The numbers of each word's pieces."""
        split = _splitter(self.tokeniser)
        return [tuple(self._numbers.get(token, UNK) for token in split(word)) for word in words]

    def _joined(self, tokens: list[str]) -> str:
        text = " ".join(tokens)
        if self.tokeniser == "punctuation":
            return text.replace(f" {JOINER}", "").replace(f"{JOINER} ", "").replace(JOINER, "")
        if self.tokeniser == "basic_english":
            for mark in ".,!?)":
                text = text.replace(f" {mark}", mark)
            return text.replace("( ", "(").replace(" ' ", "'")
        return text

    def _further(self) -> Iterable[bytes]:
        return (self.tokeniser.encode(),)

    def to_plain(self) -> dict[str, Any]:
        """Words and tokeniser."""
        return {**self._plain(), "tokeniser": self.tokeniser}


def _splitter(tokeniser: Tokeniser) -> Callable[[str], list[str]]:
    """What splits a word between white space into words of the vocabulary."""
    from torchtext.data.utils import get_tokenizer

    named = {
        "punctuation": _punctuation_apart,
        "spaces": None,
        "unpunctuated": _unpunctuated,
        "basic_english": "basic_english",
    }
    split: Callable[[str], list[str]] = get_tokenizer(named[tokeniser])
    return split


def _punctuation_apart(word: str) -> list[str]:
    """A word with every mark (Unicode categories P and S) on its own; marks carry where they were joined."""
    runs: list[str] = []
    for is_mark, group in groupby(word.replace(JOINER, ""), key=_is_mark):
        characters = list(group)
        runs += characters if is_mark else ["".join(characters)]
    tokens = list(runs)
    for place, (left, right) in enumerate(pairwise(runs)):
        if _is_mark(right[0]):
            tokens[place + 1] = JOINER + right
        else:
            assert _is_mark(left[0])
            tokens[place] += JOINER
    return tokens


def _unpunctuated(word: str) -> list[str]:
    """A word without the marks before its first letter or digit and after its last; nothing where it has none."""
    inner = [place for place, character in enumerate(word) if not _is_mark(character)]
    return [word[inner[0] : inner[-1] + 1]] if inner else []


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
