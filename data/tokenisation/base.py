"""What every kind of text handling promises: lines to numbers and back, and itself as plain data."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from data.batching import Indices
from data.tokenisation.arrays import TokenArrays
from data.tokenisation.normalisation import Normalisation

# The same in every vocabulary, so that networks, losses and search need not ask.
PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")

_LINES_AT_ONCE = 50_000
# Pieces of this many different words are remembered; a corpus of any size then takes no more memory than this.
_MAX_KNOWN_WORDS = 500_000


@dataclass(frozen=True)
class TextConfig(ABC):
    """How the text of one language is split into pieces, and which pieces a vocabulary holds."""

    @abstractmethod
    def build(self, lines: Sequence[str]) -> Text:
        """The vocabulary of these lines, which are those of the training part; the same lines always give the same one.

        Raises:
            ValueError: where the lines cannot give such a vocabulary.
        """

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """What decides the vocabulary, as plain data: two configs that are equal in it build the same from the same lines."""


class Text(ABC):
    """A vocabulary, with the way from raw lines to its numbers and back.

    Args:
        pieces: the vocabulary behind the special tokens, which have the numbers 0 (padding), 1 (begin), 2 (end) and 3
            (unknown).
        normalisation: what happens to a line first.
    """

    kind: ClassVar[str]

    def __init__(self, pieces: Sequence[str], *, normalisation: Normalisation) -> None:
        self.pieces = [*SPECIALS, *pieces]
        """The piece of each number."""
        self.normalisation = normalisation
        self._known: dict[str, Sequence[int]] = {}

    @property
    def vocabulary_size(self) -> int:
        """Pieces and special tokens."""
        return len(self.pieces)

    @abstractmethod
    def split_words(self, words: list[str]) -> list[Sequence[int]]:
        """The numbers of each word's pieces."""

    @abstractmethod
    def _joined(self, tokens: list[str]) -> str:
        """The text that pieces make up."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """All of it as plain data, for a checkpoint; `data.text.load_text` is the way back."""

    def _plain(self) -> dict[str, Any]:
        return {
            "class": self.kind,
            "fingerprint": self.fingerprint,
            "normalisation": dataclasses.asdict(self.normalisation),
            "pieces": self.pieces[len(SPECIALS) :],
        }

    @property
    def fingerprint(self) -> str:
        """Tells one vocabulary from another: two with the same give the same numbers for the same text."""
        digest = hashlib.sha256(repr((self.kind, self.normalisation, self.pieces)).encode("utf-8", "surrogatepass"))
        for part in self._further():
            digest.update(part)
        return digest.hexdigest()[:16]

    def _further(self) -> Iterable[bytes]:
        """What the numbers of a text depend on besides pieces and normalisation."""
        return ()

    def encode(self, lines: Iterable[str]) -> list[npt.NDArray[np.int32]]:
        """The numbers of each line's pieces, without begin or end; nothing for a line of white space."""
        arrays = self.encode_flat(lines)
        return [arrays[index] for index in range(len(arrays))]

    def encode_flat(self, lines: Iterable[str]) -> TokenArrays:
        """The same in two flat arrays, which is how to hold many lines."""
        lines = iter(lines)
        parts = []
        while some := list(islice(lines, _LINES_AT_ONCE)):
            words = [self.normalisation.words(line) for line in some]
            known = self._with_words(chain.from_iterable(words))
            parts.append(TokenArrays.of([*chain.from_iterable(map(known.__getitem__, line))] for line in words))
        return TokenArrays.concatenated(parts)

    def _with_words(self, words: Iterable[str]) -> dict[str, Sequence[int]]:
        # A word's pieces depend on the word alone, and most words of a corpus have been met before.
        if len(self._known) > _MAX_KNOWN_WORDS:
            self._known = {}
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        self._known.update(zip(new, self.split_words(new), strict=True))
        return self._known

    def decode(self, ids: Iterable[int]) -> str:
        """Raw text again. Padding, begin and end leave no trace; the caller has cut what follows an end.

        Raises:
            ValueError: for a number that is none of the vocabulary's.
        """
        return self._joined(self.tokens(number for number in ids if int(number) not in (PAD, BOS, EOS)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The pieces of some numbers, special tokens included, to look at.

        Raises:
            ValueError: for a number that is none of the vocabulary's.
        """
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < len(self.pieces):
                raise ValueError(
                    f"Token {number} is outside the vocabulary, whose numbers run from 0 to {len(self.pieces) - 1}. Decode "
                    "with the vocabulary that the network was trained with."
                )
        return [self.pieces[number] for number in numbers]

    def pieces_of_words(self, line: str) -> Indices:
        """For each piece of a line, the number of the word it belongs to, `int64 (num_pieces,)`.

        Words are what stands between white space in the raw line, as in Pharaoh alignments. A word can have no piece.
        """
        numbers = []
        for number, raw in enumerate(line.split()):
            words = self.normalisation.words(raw)
            known = self._with_words(words)
            numbers += [number] * sum(len(known[word]) for word in words)
        return np.array(numbers, np.int64)
