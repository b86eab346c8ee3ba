"""Long sequences in consecutive chunks: the batch plan of truncated back-propagation through time (notes N6).

A *stream* is one long sequence. Its chunks are `chunk_size` (k2) steps long and move on by `shift` (k1) steps; the loss
of a chunk counts only the steps that no earlier chunk has counted, so that every step counts exactly once:

    10 steps, chunk_size 6, shift 2     counted     before them: context, through which the gradient reaches back
    chunk 0   0 1 2 3 4 5               0 to 5      none
    chunk 1       2 3 4 5 6 7           6, 7        2 to 5
    chunk 2           4 5 6 7 8 9       8, 9        4 to 7

Each chunk is an ordinary example of an ordinary batch, so clipping, accumulation and schedules are what they always are.
A stream stays at one position of the global batch from its first chunk to its last, chunk after chunk, and streams that
end are followed by others: whatever the number of processes and pieces, the state that a chunk continues from is where
the chunk is computed.

Source: Williams & Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories",
Neural Computation 2, 1990: BPTT(h; h') with h = chunk_size and h' = shift.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from data.batching import BatchPlan, Indices, Piece

NO_STREAM = -1


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """How streams are cut."""

    chunk_size: int
    """Steps a chunk has at most, which is how far back the gradient of its last step reaches (k2)."""
    shift: int | None = None
    """Steps that each chunk moves on by, at most chunk_size (k1); None: chunk_size, so that chunks do not overlap."""

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {self.chunk_size}.")
        if self.shift is not None and not 1 <= self.shift <= self.chunk_size:
            raise ValueError(
                f"shift must be from 1 to chunk_size={self.chunk_size}, got {self.shift}: a chunk that moves on by more "
                "than its size would leave steps out."
            )

    @property
    def steps_moved(self) -> int:
        """Steps that each chunk moves on by."""
        return self.chunk_size if self.shift is None else self.shift


class StreamChunk(NamedTuple):
    """Where the chunks of a batch stand in their streams; part of an application's typed batch.

    What decides which state a row continues from is plain Python, so that reading it never waits for a GPU.
    """

    streams: tuple[int, ...]
    """The stream of each row; `NO_STREAM` for a filler, whose state comes from nowhere and goes nowhere."""
    starts: tuple[bool, ...]
    """Whether the chunk is its stream's first."""
    ends: tuple[bool, ...]
    """Whether the chunk is its stream's last."""
    shift: int
    """Steps after which the state is carried to the stream's next chunk."""
    lengths: Int[Tensor, "batch"]
    """Valid steps of each chunk."""
    context: Int[Tensor, "batch"]
    """Steps at the start of each chunk that an earlier chunk has counted."""


class Chunks:
    """All chunks of some streams. Example number = chunks of the streams before + number within its stream.

    Args:
        lengths: steps of each stream, `(num_streams,)`.
        config: how they are cut.

    Raises:
        ValueError: where there is no stream, or one has no step.
    """

    def __init__(self, lengths: npt.ArrayLike, *, config: ChunkConfig) -> None:
        self.stream_lengths = np.asarray(lengths, dtype=np.int64)
        if self.stream_lengths.ndim != 1 or not len(self.stream_lengths):
            raise ValueError(f"Expected the length of at least one stream, got shape {self.stream_lengths.shape}.")
        shortest = int(self.stream_lengths.argmin())
        if self.stream_lengths[shortest] < 1:
            raise ValueError(
                f"Every stream must have at least one step, got {self.stream_lengths[shortest]} for stream {shortest}. "
                "Leave empty streams out."
            )
        self.config = config
        beyond_first = np.maximum(self.stream_lengths - config.chunk_size, 0)
        self.num_chunks: Indices = 1 + -(-beyond_first // config.steps_moved)
        """Chunks of each stream."""
        self.first: Indices = np.concatenate([[0], np.cumsum(self.num_chunks)[:-1]])
        """Example number of each stream's first chunk."""
        self._stream_starts = np.concatenate([[0], np.cumsum(self.stream_lengths)[:-1]])

    @property
    def num_streams(self) -> int:
        """Streams."""
        return len(self.stream_lengths)

    def __len__(self) -> int:
        return int(self.num_chunks.sum())

    @property
    def lengths(self) -> Indices:
        """Valid steps of every chunk."""
        return self._located(np.arange(len(self)))[2]

    def _located(self, indices: Indices) -> tuple[Indices, Indices, Indices]:
        """Stream, first step within it, and valid steps of chunks."""
        stream: Indices = np.searchsorted(self.first, indices, side="right") - 1
        start = (indices - self.first[stream]) * self.config.steps_moved
        return stream, start, np.minimum(self.stream_lengths[stream] - start, self.config.chunk_size)

    def of(self, piece: Piece) -> StreamChunk:
        """Where the chunks of a piece stand."""
        stream, start, length = self._located(piece.indices)
        filler = piece.weight == 0
        ends = start + length == self.stream_lengths[stream]
        context = np.where(start > 0, self.config.chunk_size - self.config.steps_moved, 0)
        return StreamChunk(
            streams=tuple(NO_STREAM if filler else int(number) for number in stream),
            starts=tuple(bool(first) for first in start == 0),
            ends=tuple(bool(last) for last in ends),
            shift=self.config.steps_moved,
            lengths=torch.from_numpy(length),
            context=torch.from_numpy(context),
        )

    def gather(self, values: npt.NDArray[np.generic], piece: Piece) -> Tensor:
        """The steps of a piece's chunks, `(batch, time, ...)`, zeros in the padding.

        Args:
            values: all streams one after the other, `(total steps, ...)`.
            piece: the chunks.

        Raises:
            ValueError: where the streams do not add up to `values`.
        """
        if len(values) != self.stream_lengths.sum():
            raise ValueError(f"The streams have {self.stream_lengths.sum()} steps in all, but there are {len(values)}.")
        stream, start, length = self._located(piece.indices)
        steps = np.arange(length.max())
        rows = (self._stream_starts[stream] + start)[:, None] + steps
        gathered = values[np.minimum(rows, len(values) - 1)]
        gathered[steps >= length[:, None]] = 0
        return torch.from_numpy(gathered)


class StreamPlan(BatchPlan):
    """Global batches in which position p holds one stream after the other, each from its first chunk to its last.

    Streams are dealt to the positions longest first, each to the one that is free first (Graham's rule), which depends on
    the lengths alone: every epoch has as many batches as every other. Which of the equally long streams stands where, and
    the order at a position, are drawn from (seed, epoch). Positions that run out of streams are the last ones, so that
    the others keep their numbers, and with them their process and piece. A few streams much longer than the rest make
    small batches at an epoch's end: cut such streams in several before.

    Args:
        chunks: the chunks.
        batch_size: streams side by side in a global batch.
        shuffle: draw a new order each epoch.
        seed: seed of the order.
    """

    def __init__(self, chunks: Chunks, *, batch_size: int, shuffle: bool, seed: int) -> None:
        super().__init__(len(chunks), batch_size=batch_size, shuffle=shuffle, seed=seed)
        self.chunks = chunks
        self.lengths = chunks.lengths
        self._positions, self._loads = self._deal(np.sort(chunks.num_chunks)[::-1], min(batch_size, chunks.num_streams))

    @staticmethod
    def _deal(sizes: Indices, num_positions: int) -> tuple[list[list[int]], Indices]:
        """The streams (by rank in size) at each position, and its chunks; the fullest position first."""
        held: list[list[int]] = [[] for _ in range(num_positions)]
        queue = [(0, position) for position in range(num_positions)]
        for stream, size in enumerate(sizes):
            load, position = queue[0]
            held[position].append(stream)
            heapq.heapreplace(queue, (load + int(size), position))
        loads = np.zeros(num_positions, dtype=np.int64)
        for load, position in queue:
            loads[position] = load
        fullest_first = np.argsort(-loads, kind="stable")
        return [held[position] for position in fullest_first], loads[fullest_first]

    @property
    def num_batches(self) -> int:
        """Global batches an epoch, the same in every epoch."""
        return int(self._loads[0])

    def batches(self, epoch: int) -> list[Indices]:
        """The global batches of one epoch, in order: every chunk exactly once, those of a stream in consecutive batches."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch))))
        num_streams = self.chunks.num_streams
        order = generator.permutation(num_streams) if self.shuffle else np.arange(num_streams)
        order = order[np.argsort(-self.chunks.num_chunks[order], kind="stable")]
        table = np.zeros((self.num_batches, len(self._positions)), dtype=np.int64)
        for position, held in enumerate(self._positions):
            streams = order[held]
            if self.shuffle:
                streams = generator.permutation(streams)
            runs = [np.arange(self.chunks.num_chunks[stream]) + self.chunks.first[stream] for stream in streams]
            table[: self._loads[position], position] = np.concatenate(runs)
        return [row[self._loads > number] for number, row in enumerate(table)]
