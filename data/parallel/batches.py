"""Pairs of sentences as padded batches of tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.batching import Indices, Piece
from data.text import BOS, EOS, PAD, TokenArrays
from data.tokenisation.dropout import DroppedSentences

Side = TokenArrays | DroppedSentences


class TranslationBatch(NamedTuple):
    """Pairs of sentences; padding stands behind each and is `PAD`."""

    source: Int[Tensor, "batch source_time"]
    """The sentence to translate and `EOS`."""
    source_lengths: Int[Tensor, "batch"]
    """Tokens of each, `EOS` included: at least 1."""
    target: Int[Tensor, "batch target_time"]
    """`BOS` and the translation: what the decoder is given."""
    labels: Int[Tensor, "batch target_time"]
    """The translation and `EOS`: what it has to say."""
    target_lengths: Int[Tensor, "batch"]
    """Tokens of target and of labels: at least 1."""
    index: Int[Tensor, "batch"]  # type: ignore[assignment]  # nobody looks a tensor up in a batch
    """Row of each pair in its part, as read."""
    weight: Float[Tensor, "batch"]
    """1, or 0 for a filler example that no loss and no metric counts."""


class _Split(NamedTuple):
    epoch: int
    source: Side
    target: Side


class PairDataset:
    """The pairs of one part as a `PlannedDataset`: each batch is a few array operations.

    Args:
        source: all sentences of the part, without begin or end.
        target: their translations.
        rows: the pairs to take, by their row in the part.
    """

    def __init__(self, source: Side, target: Side, *, rows: Indices) -> None:
        assert len(source) == len(target)
        self.source = source
        self.target = target
        self.rows = rows
        self._lengths = self._with_ends(source.lengths, target.lengths)
        self._split = _Split(-1, source, target)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Indices:
        """Steps of source and target of each pair, `(num_pairs, 2)`; those without dropout."""
        return self._lengths

    def lengths_in(self, epoch: int) -> Indices:
        """The same in an epoch, with dropout: a fifth longer or so, and otherwise in every epoch."""
        split = self._split_in(epoch)
        return self._with_ends(split.source.lengths, split.target.lengths)

    def _with_ends(self, source: Indices, target: Indices) -> Indices:
        return 1 + np.stack([source[self.rows], target[self.rows]], axis=1)

    def _split_in(self, epoch: int) -> _Split:
        """All sentences as they are in an epoch; kept, for batches of that epoch are asked for next."""
        if self._split.epoch != epoch:
            whole = [
                side.take_all(epoch=epoch) if isinstance(side, DroppedSentences) else side
                for side in (self.source, self.target)
            ]
            self._split = _Split(epoch, *whole)
        return self._split

    def batch(self, piece: Piece) -> TranslationBatch:
        """The pairs of a piece."""
        rows = self.rows[piece.indices]
        # A process that loads batches for another has not planned the epoch: it splits what it needs, to the same effect.
        sides = self._split[1:] if self._split.epoch == piece.epoch else (self.source, self.target)
        source, target = (_taken(side, rows, piece.epoch) for side in sides)
        return TranslationBatch(
            source=torch.from_numpy(source.padded(after=EOS, padding=PAD)),
            source_lengths=torch.from_numpy(source.lengths + 1),
            target=torch.from_numpy(target.padded(before=BOS, padding=PAD)),
            labels=torch.from_numpy(target.padded(after=EOS, padding=PAD)),
            target_lengths=torch.from_numpy(target.lengths + 1),
            index=torch.from_numpy(rows),
            weight=torch.full((len(rows),), piece.weight),
        )


def _taken(side: Side, rows: Indices, epoch: int) -> TokenArrays:
    return side.take(rows, epoch=epoch) if isinstance(side, DroppedSentences) else side.take(rows)
