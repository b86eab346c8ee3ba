"""Pairs of sentences as padded batches of tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.batching import Indices, Piece
from data.text import BOS, EOS, PAD, TokenArrays
from data.text_dropout import DroppedSentences

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
        # With begin or end. With dropout a sentence is somewhat longer than that, and otherwise so in every epoch.
        self._lengths = 1 + np.stack([source.lengths[rows], target.lengths[rows]], axis=1)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Indices:
        """Steps of source and target of each pair, `(num_pairs, 2)`; those without dropout."""
        return self._lengths

    def batch(self, piece: Piece) -> TranslationBatch:
        """The pairs of a piece."""
        rows = self.rows[piece.indices]
        source, target = (_taken(side, rows, piece.epoch) for side in (self.source, self.target))
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
