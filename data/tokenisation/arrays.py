"""Many sentences as one flat array of tokens: ten million of them are two arrays and no lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.batching import Indices


@dataclass(frozen=True)
class TokenArrays:
    """Sentences one after the other.

    Attributes:
        ids: all tokens, `int32 (total,)`.
        offsets: where each sentence begins, and the end, `int64 (num_sentences + 1,)`.
    """

    ids: npt.NDArray[np.int32]
    offsets: Indices

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int]]) -> TokenArrays:
        """Sentences that are sequences of numbers."""
        ids: list[int] = []
        ends = [0]
        for sentence in sentences:
            ids.extend(sentence)
            ends.append(len(ids))
        return cls(np.array(ids, np.int32), np.array(ends, np.int64))

    @classmethod
    def concatenated(cls, parts: Sequence[TokenArrays]) -> TokenArrays:
        """All sentences of several arrays, in order."""
        lengths = np.concatenate([np.empty(0, np.int64), *[part.lengths for part in parts]])
        ids = np.concatenate([np.empty(0, np.int32), *[part.ids for part in parts]])
        return cls(ids.astype(np.int32, copy=False), offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> Indices:
        """Tokens of each sentence, `int64 (num_sentences,)`."""
        return np.diff(self.offsets)

    def take(self, rows: Indices) -> TokenArrays:
        """Some of the sentences, in the order of `rows`."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return TokenArrays(self.ids[ranges(self.offsets[rows], lengths)], offsets_of(lengths))

    def padded(self, *, before: int | None = None, after: int | None = None, padding: int) -> Indices:
        """The sentences side by side, `int64 (num_sentences, time)`.

        Args:
            before: a token that each sentence begins with.
            after: a token that each sentence ends with.
            padding: what stands behind a sentence's end.
        """
        lengths = self.lengths
        start = 0 if before is None else 1
        stops = start + lengths
        num_steps = int(stops.max(initial=start)) + (after is not None)
        padded = np.full((len(self), num_steps), padding, np.int64)
        steps = np.arange(num_steps)
        padded[(steps >= start) & (steps < stops[:, None])] = self.ids
        if before is not None:
            padded[:, 0] = before
        if after is not None:
            padded[np.arange(len(self)), stops] = after
        return padded


def offsets_of(lengths: Indices) -> Indices:
    """Where runs of these lengths begin when one follows the other, and their end, `int64 (num_runs + 1,)`."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: Indices, lengths: Indices) -> Indices:
    """`start, start + 1, ...` of every run, one run after the other, `int64 (total,)`."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    indices: Indices = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return indices
