"""N-grams as numbers, so that those of many sequences are counted and compared by a few array operations."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_BITS = 31  # two numbers make one key of 62 bits
_MASK = (1 << _BITS) - 1


class NgramCounts(NamedTuple):
    """The different n-grams of one order in some sequences, by sequence and then by number."""

    sequence: Integers
    """Which sequence, shape (entries,)."""
    number: Integers
    """Which n-gram, shape (entries,)."""
    times: Integers
    """How often it stands there, shape (entries,)."""


class NgramNumbers:
    """Numbers for all n-grams of some sequences, 0, 1, ... for each order: a vocabulary of n-grams. `of` makes one.

    An n-gram of order n is the pair of the two of order n - 1 in it, so one sorted array of pairs an order is all there is.

    Args:
        tokens: number of each token.
        pairs: of each order from 2 on, the n-grams as pairs of numbers of the order below, ascending.
    """

    def __init__(self, tokens: Mapping[Hashable, int], *, pairs: Sequence[Integers]) -> None:
        self._tokens = tokens
        self._pairs = pairs

    @classmethod
    def of(cls, sequences: Sequence[Sequence[Hashable]], *, max_order: int) -> tuple[NgramNumbers, list[NgramCounts]]:
        """Those of n-grams of 1 to `max_order` tokens, and what `counts` says of the same sequences.

        Args:
            sequences: tokens, each anything hashable.
            max_order: the longest n-gram.
        """
        tokens: dict[Hashable, int] = {}
        numbers = [tokens.setdefault(token, len(tokens)) for token in chain.from_iterable(sequences)]
        sequence, number = _sequence_of_token(sequences), np.asarray(numbers, dtype=np.int64)
        pairs, found = [], [_counted(sequence, number)]
        for _ in range(1, max_order):
            sequence, joined = _pairs_of(sequence, number)
            known, number = np.unique(joined, return_inverse=True)
            pairs.append(known)
            found.append(_counted(sequence, number))
        return cls(tokens, pairs=pairs), found

    @property
    def num_known(self) -> list[int]:
        """How many there are of each order; a larger number is that of an n-gram that the sequences did not have."""
        return [len(self._tokens), *map(len, self._pairs)]

    def counts(self, sequences: Sequence[Sequence[Hashable]]) -> list[NgramCounts]:
        """What each sequence holds of each order; unknown n-grams have numbers too, which mean nothing in another call."""
        known, new = self._tokens, dict[Hashable, int]()
        numbers = []
        for token in chain.from_iterable(sequences):
            known_number = known.get(token)
            numbers.append(new.setdefault(token, len(known) + len(new)) if known_number is None else known_number)
        sequence, number = _sequence_of_token(sequences), np.asarray(numbers, dtype=np.int64)
        found = [_counted(sequence, number)]
        for known_pairs in self._pairs:
            sequence, joined = _pairs_of(sequence, number)
            number = _numbered(joined, known_pairs)
            found.append(_counted(sequence, number))
        return found


def joined_keys(first: Integers, second: Integers) -> Integers:
    """One number for each pair of numbers, which are below 2^31; sorted by it, pairs are sorted by first and then second."""
    return (first << _BITS) | second


def second_of_keys(keys: Integers) -> Integers:
    """The second number of each pair."""
    return keys & _MASK


def _sequence_of_token(sequences: Sequence[Sequence[Hashable]]) -> Integers:
    return np.repeat(np.arange(len(sequences)), np.fromiter(map(len, sequences), np.int64, len(sequences)))


def _pairs_of(sequence: Integers, number: Integers) -> tuple[Integers, Integers]:
    inside = sequence[1:] == sequence[:-1]
    return sequence[1:][inside], joined_keys(number[:-1][inside], number[1:][inside])


def _numbered(pairs: Integers, known: Integers) -> Integers:
    place = np.searchsorted(known, pairs)
    is_new = np.ones(len(pairs), dtype=bool)
    inside = place < len(known)
    is_new[inside] = known[place[inside]] != pairs[inside]
    if is_new.any():
        place[is_new] = len(known) + np.unique(pairs[is_new], return_inverse=True)[1]
    return place


def _counted(sequence: Integers, number: Integers) -> NgramCounts:
    keys, count = np.unique(joined_keys(sequence, number), return_counts=True)
    return NgramCounts(keys >> _BITS, second_of_keys(keys), count)
