"""BPE-dropout: training text split otherwise in every epoch, as a function of (seed, epoch, index) alone.

At each step of merging, every merge that is possible is left out with probability p, and the first of the remaining ones is
done; where none remains, the word is finished. How many are left out before the first that is not follows a geometric
distribution, so one random number a step is all it takes, and most words have none above zero: they are split as ever.

Source: Provilkov et al., "BPE-Dropout: Simple and Effective Subword Regularization", ACL 2020, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from data.batching import Indices
from data.tokenisation.arrays import TokenArrays, offsets_of, ranges
from data.tokenisation.subwords import BPEText

Words64 = npt.NDArray[np.uint64]

_LINES_AT_ONCE = 50_000
# Splits that are remembered, of about 200 bytes each.
_MAX_KNOWN_SPLITS = 200_000
# Increment and multipliers of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class DroppedSentences:
    """Sentences that can be split with dropout, all of them or some at once.

    Args:
        text: the vocabulary.
        lines: the sentences.
        dropout: probability that a merge is left out, 0 to below 1.
        seed: with epoch and index it decides every split.
        stream: which of several texts with the same seed this is: the two sides of a pair are split independently.
    """

    def __init__(self, text: BPEText, lines: Iterable[str], *, dropout: float, seed: int, stream: int = 0) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {dropout}.")
        self.text = text
        self.dropout = dropout
        self._key = (seed, stream)
        numbers: dict[str, int] = {}
        parts = []
        lines = iter(lines)
        while some := list(islice(lines, _LINES_AT_ONCE)):
            words = [text.normalisation.words(line) for line in some]
            parts.append(
                TokenArrays.of([numbers.setdefault(word, len(numbers)) for word in sentence] for sentence in words)
            )
        self._sentences = TokenArrays.concatenated(parts)
        self._characters = TokenArrays.of(text.characters(word) for word in numbers)
        self._whole = TokenArrays.of(text.split_words(list(numbers)))
        self._known: dict[tuple[int, bytes], list[int]] = {}

    def __len__(self) -> int:
        return len(self._sentences)

    @property
    def lengths(self) -> Indices:
        """Pieces of each sentence without dropout; with it, sentences are somewhat longer."""
        pieces = self._whole.lengths[self._sentences.ids]
        return np.diff(np.concatenate([[0], np.cumsum(pieces)])[self._sentences.offsets])

    def take(self, rows: Indices, *, epoch: int) -> TokenArrays:
        """Some of the sentences as they are split in an epoch."""
        words = self._sentences.take(rows)
        num_steps = self._characters.lengths[words.ids] - 1
        firsts = offsets_of(num_steps)
        skips = self._skips(rows, offsets=firsts[words.offsets], epoch=epoch)
        # Later steps than those that a word takes without dropout matter only once one was skipped.
        num_taken = num_steps + 1 - self._whole.lengths[words.ids]
        taken = offsets_of(num_taken)
        skipped = np.concatenate([[0], np.cumsum(skips[ranges(firsts[:-1], num_taken)] > 0)])
        otherwise = np.flatnonzero(skipped[taken[1:]] > skipped[taken[:-1]])
        split = [self._split(int(words.ids[at]), skips[firsts[at] : firsts[at + 1]]) for at in otherwise.tolist()]
        lengths = self._whole.lengths[words.ids]
        lengths[otherwise] = [len(pieces) for pieces in split]
        ends = offsets_of(lengths)
        ids = np.empty(ends[-1], np.int32)
        alike = np.ones(len(words.ids), bool)
        alike[otherwise] = False
        ids[ranges(ends[:-1][alike], lengths[alike])] = self._whole.take(words.ids[alike].astype(np.int64)).ids
        ids[ranges(ends[:-1][otherwise], lengths[otherwise])] = [piece for pieces in split for piece in pieces]
        return TokenArrays(ids, ends[words.offsets])

    def take_all(self, *, epoch: int) -> TokenArrays:
        """All sentences as they are split in an epoch."""
        rows = np.arange(len(self))
        return TokenArrays.concatenated(
            [
                self.take(rows[start : start + _LINES_AT_ONCE], epoch=epoch)
                for start in range(0, len(self), _LINES_AT_ONCE)
            ]
        )

    def _skips(self, rows: Indices, *, offsets: Indices, epoch: int) -> npt.NDArray[np.uint16]:
        """How many of the possible merges are left out before one is done, at each step of each sentence."""
        lengths = np.diff(offsets)
        if self.dropout == 0:
            return np.zeros(offsets[-1], np.uint16)
        key = np.zeros(len(rows), np.uint64)
        for number in (*self._key, epoch, rows):
            key = _mixed(key + _GOLDEN + np.asarray(number).astype(np.uint64))
        steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + 1
        bits = _mixed(np.repeat(key, lengths) + steps.astype(np.uint64) * _GOLDEN)
        uniform = ((bits >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53  # above 0, at most 1
        skips = np.minimum(np.log(uniform) / np.log(self.dropout), np.iinfo(np.uint16).max)
        return np.asarray(skips.astype(np.uint16))

    def _split(self, word: int, skips: npt.NDArray[np.uint16]) -> list[int]:
        key = (word, skips.tobytes())
        pieces = self._known.get(key)
        if pieces is None:
            if len(self._known) >= _MAX_KNOWN_SPLITS:
                self._known.clear()
            pieces = self._known[key] = merged(self.text, self._characters[word].tolist(), skips=skips.tolist())
        return pieces


def merged(text: BPEText, pieces: list[int], *, skips: Iterable[int]) -> list[int]:
    """The pieces of a word after merging them, at each step the possible merge that comes after `skips` others.

    Args:
        text: the vocabulary.
        pieces: numbers of the word's characters.
        skips: possible merges left out at each step, as many steps as the word can take.
    """
    ranks = text.ranks
    pieces = list(pieces)
    for skip in skips:
        possible = [(*ranks[pair], place) for place, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if len(possible) <= skip:
            break
        # By rank, then from the left, as everywhere.
        _, product, place = sorted(possible)[skip] if skip else min(possible)
        pieces[place : place + 2] = [product]
    return pieces


def _mixed(bits: Words64) -> Words64:
    bits = (bits ^ (bits >> np.uint64(30))) * _MULTIPLIERS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MULTIPLIERS[1]
    return bits ^ (bits >> np.uint64(31))
