"""Whole series in consecutive chunks, for networks that carry their state from each to the next (notes N6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data.batching import Indices, Piece
from data.series.forecast_windows import ScaledPanel
from data.series.windows import gather_windows
from data.streams import ChunkConfig, Chunks, StreamChunk


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Training on whole series in chunks, the state carried on: truncated back-propagation through time."""

    chunk_size: int | None = None
    """Steps of a chunk, which is how far back the gradient of its last step reaches (k2). None: train on windows."""
    shift: int | None = None
    """Steps from one chunk to the next, at most chunk_size (k1). None: chunk_size, so that chunks do not overlap."""

    def __post_init__(self) -> None:
        if self.chunk_size is None:
            if self.shift is not None:
                raise ValueError(
                    f"data.stream.shift is {self.shift}, but without data.stream.chunk_size there are no chunks to move on: "
                    "it would do nothing. Set chunk_size, or leave shift out."
                )
            return
        if self.chunk_size < 1:
            raise ValueError(f"data.stream.chunk_size must be at least 1 step, got {self.chunk_size}.")
        if self.shift is not None and not 1 <= self.shift <= self.chunk_size:
            raise ValueError(
                f"data.stream.shift must be from 1 to chunk_size ({self.chunk_size}), got {self.shift}: a chunk that moves "
                "on by more than its size would leave steps out."
            )

    @property
    def chunks(self) -> ChunkConfig | None:
        """How series are cut; None where windows are trained on."""
        return None if self.chunk_size is None else ChunkConfig(chunk_size=self.chunk_size, shift=self.shift)


class StreamBatch(NamedTuple):
    """Chunks of series, each with the horizon after its last step. Values are in the units of `data.scaling`.

    Step t of a chunk forecasts steps t + 1 to t + horizon, so the targets are the values themselves, further on.
    """

    values: Float[Tensor, "batch time+horizon"]
    """Valid steps first, 0 where missing or padding."""
    observed: Bool[Tensor, "batch time+horizon"]
    """True where the value is known."""
    calendar: Float[Tensor, "batch time+horizon features"]
    chunk: StreamChunk
    """Where each row stands in its series, and how many steps it has without the horizon."""
    num_skipped: int
    """Steps at the start of the chunks that are counted in no row: forecasts of them would be for nothing."""
    series: Int[Tensor, "batch"]
    example: Int[Tensor, "batch"]
    """Number of the chunk in the training part."""
    weight: Float[Tensor, "batch"]
    """1, or 0 for a filler example that no loss counts."""

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Valid steps of each chunk, without the horizon."""
        return self.chunk.lengths


class StreamDataset:
    """The training part as a `PlannedDataset` of chunks.

    A stream is one series up to the last row that has its whole horizon within the training part, so every step has all
    its targets, as every window has.

    Args:
        scaled: the panel.
        train_ends: end of the training part of each series, `(num_series,)`.
        horizon: steps that each step forecasts.
        config: how streams are cut.

    Raises:
        ValueError: where no series has a row with its horizon in the training part.
    """

    def __init__(self, scaled: ScaledPanel, train_ends: Indices, *, horizon: int, config: ChunkConfig) -> None:
        num_steps = train_ends - horizon
        longest = int(num_steps.argmax())
        if num_steps[longest] < 1:
            raise ValueError(
                f"No series can be trained on in chunks: one needs a row and the horizon of {horizon} after it, and the "
                f"longest training part (series {scaled.panel.series_ids[longest]!r}) has {train_ends[longest]} rows. "
                "Shorten data.horizon or give the training part more rows."
            )
        self.scaled = scaled
        self.horizon = horizon
        self.series: Indices = np.flatnonzero(num_steps > 0)
        """The series of each stream."""
        self.left_out = [scaled.panel.series_ids[i] for i in np.flatnonzero(num_steps < 1).tolist()]
        """Names of the series without a step."""
        self.chunks = Chunks(num_steps[self.series], config=config)

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def lengths(self) -> Indices:
        """Valid steps of every chunk, without the horizon."""
        return self.chunks.lengths

    def batch(self, piece: Piece) -> StreamBatch:
        """The chunks of a piece."""
        scaled, chunks = self.scaled, self.chunks
        chunk = chunks.of(piece)
        stream = np.searchsorted(chunks.first, piece.indices, side="right") - 1
        series = self.series[stream]
        starts = (piece.indices - chunks.first[stream]) * chunks.config.steps_moved
        begins = scaled.panel.offsets[series] + starts
        lengths = chunk.lengths.numpy() + self.horizon
        size = int(lengths.max())
        values = gather_windows(scaled.values, begins, lengths, size=size)
        steps = np.minimum(begins[:, None] + np.arange(size), len(scaled.dates) - 1)
        return StreamBatch(
            values=torch.from_numpy(values.values),
            observed=torch.from_numpy(values.observed),
            calendar=torch.from_numpy(scaled.calendar[scaled.dates[steps]]),
            chunk=chunk,
            num_skipped=int(chunk.context.min()),
            series=torch.from_numpy(series),
            example=torch.from_numpy(piece.indices.astype(np.int64)),
            weight=torch.full((len(piece.indices),), piece.weight),
        )
