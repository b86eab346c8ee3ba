"""Streams cut in chunks, and the plan that keeps each at its place (notes N6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.batching import Piece, PieceSampler
from data.streams import NO_STREAM, ChunkConfig, Chunks, StreamPlan


@st.composite
def chunks(draw: st.DrawFn) -> Chunks:
    chunk_size = draw(st.integers(1, 9))
    shift = draw(st.none() | st.integers(1, chunk_size))
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=25))
    return Chunks(lengths, config=ChunkConfig(chunk_size=chunk_size, shift=shift))


@st.composite
def plans(draw: st.DrawFn) -> StreamPlan:
    return StreamPlan(
        draw(chunks()), batch_size=draw(st.integers(1, 12)), shuffle=draw(st.booleans()), seed=draw(st.integers(0, 3))
    )


def everything(cut: Chunks) -> Piece:
    return Piece(0, np.arange(len(cut)))


@given(cut=chunks())
def test_every_step_is_counted_exactly_once(cut: Chunks) -> None:
    counted = [np.zeros(length, dtype=int) for length in cut.stream_lengths]
    chunk = cut.of(everything(cut))
    for row, stream in enumerate(chunk.streams):
        start = (row - cut.first[stream]) * chunk.shift
        assert 0 <= chunk.context[row] < chunk.lengths[row] <= cut.config.chunk_size
        counted[stream][start + int(chunk.context[row]) : start + int(chunk.lengths[row])] += 1
        assert chunk.starts[row] == (start == 0)
        assert chunk.ends[row] == (start + chunk.lengths[row] == cut.stream_lengths[stream])
        assert chunk.ends[row] or chunk.lengths[row] == cut.config.chunk_size  # only a stream's end is cut short
    for steps in counted:
        assert (steps == 1).all()


@given(cut=chunks())
def test_a_stream_that_fits_is_one_chunk(cut: Chunks) -> None:
    """Then the truncated gradient is the whole one."""
    fits = cut.stream_lengths <= cut.config.chunk_size
    assert ((cut.num_chunks == 1) == fits).all()


@given(cut=chunks())
def test_chunks_hold_the_steps_of_their_stream_and_zeros(cut: Chunks) -> None:
    total = int(cut.stream_lengths.sum())
    number = np.repeat(np.arange(cut.num_streams), cut.stream_lengths)
    step = np.concatenate([np.arange(length) for length in cut.stream_lengths])
    values = np.stack([number + 1, step], axis=1).astype(np.float32)
    piece = everything(cut)
    gathered, chunk = cut.gather(values, piece), cut.of(piece)
    assert gathered.shape == (len(cut), int(chunk.lengths.max()), 2)
    for row, stream in enumerate(chunk.streams):
        length = int(chunk.lengths[row])
        assert (gathered[row, :length, 0] == stream + 1).all()
        start = (row - int(cut.first[stream])) * chunk.shift
        assert gathered[row, :length, 1].tolist() == list(range(start, start + length))
        assert not gathered[row, length:].any()
    assert len(values) == total
    with pytest.raises(ValueError, match=f"{total} steps in all, but there are {total + 1}"):
        cut.gather(np.zeros((total + 1, 2)), piece)


@given(plan=plans(), epoch=st.integers(0, 3))
def test_every_chunk_is_planned_once_and_follows_the_one_before(plan: StreamPlan, epoch: int) -> None:
    batches = plan.batches(epoch)
    assert len(batches) == plan.num_batches
    assert sorted(np.concatenate(batches)) == list(range(plan.num_examples))
    place = {int(example): (number, p) for number, batch in enumerate(batches) for p, example in enumerate(batch)}
    for first, num_chunks in zip(plan.chunks.first, plan.chunks.num_chunks, strict=True):
        number, position = place[int(first)]
        for later in range(num_chunks):
            assert place[int(first) + later] == (number + later, position)
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == min(plan.batch_size, plan.chunks.num_streams)


@given(plan=plans(), num_ranks=st.integers(1, 4), accumulation=st.integers(1, 3))
def test_a_stream_stays_with_its_process_and_piece(plan: StreamPlan, num_ranks: int, accumulation: int) -> None:
    """So its state is where it is needed, and never twice: a filler carries none."""
    held: dict[int, tuple[int, int]] = {}
    dealt: list[int] = []
    for rank in range(num_ranks):
        sampler = PieceSampler(plan, num_ranks=num_ranks, rank=rank, accumulation=accumulation)
        for number, piece in enumerate(sampler):
            streams = plan.chunks.of(piece).streams
            if piece.weight:
                dealt.extend(piece.indices.tolist())
                assert all(held.setdefault(s, (rank, number % accumulation)) == held[s] for s in streams)
                assert all(held[stream] == (rank, number % accumulation) for stream in streams)
            else:
                assert streams == (NO_STREAM,)
    assert sorted(dealt) == list(range(plan.num_examples))


@given(plan=plans())
def test_no_position_waits_while_another_has_much_left(plan: StreamPlan) -> None:
    """Graham's bound: at most one longest stream above an even share."""
    positions = min(plan.batch_size, plan.chunks.num_streams)
    even = -(-plan.num_examples // positions)
    assert even <= plan.num_batches <= even + plan.chunks.num_chunks.max()


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    cut = Chunks([30] * 20, config=ChunkConfig(chunk_size=10))

    def order(seed: int, epoch: int, *, shuffle: bool = True) -> list[list[int]]:
        plan = StreamPlan(cut, batch_size=4, shuffle=shuffle, seed=seed)
        return [batch.tolist() for batch in plan.batches(epoch)]

    assert order(1, 2) == order(1, 2)
    assert len({str(order(*pair)) for pair in ((1, 2), (2, 1), (1, 3))}) == 3
    assert order(0, 0, shuffle=False) == order(5, 7, shuffle=False)


def test_overlap_costs_what_it_says() -> None:
    """chunk_size / shift times the steps, and none without a shift."""
    lengths = [1000] * 4
    assert Chunks(lengths, config=ChunkConfig(chunk_size=100)).lengths.sum() == 4000
    assert Chunks(lengths, config=ChunkConfig(chunk_size=100, shift=25)).lengths.sum() == 4 * 37 * 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChunkConfig(chunk_size=0), "chunk_size must be at least 1, got 0"),
        (lambda: ChunkConfig(chunk_size=5, shift=6), "shift must be from 1 to chunk_size=5, got 6.*leave steps out"),
        (lambda: ChunkConfig(chunk_size=5, shift=0), "from 1 to chunk_size=5, got 0"),
        (lambda: Chunks([], config=ChunkConfig(chunk_size=5)), "at least one stream"),
        (lambda: Chunks([4, 0], config=ChunkConfig(chunk_size=5)), "at least one step, got 0 for stream 1"),
        (
            lambda: StreamPlan(Chunks([4], config=ChunkConfig(chunk_size=5)), batch_size=0, shuffle=True, seed=0),
            "batch_size must be at least 1, got 0",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_parts_are_tensors_or_plain() -> None:
    chunk = Chunks([7, 3], config=ChunkConfig(chunk_size=4, shift=2)).of(Piece(0, np.array([3, 0])))
    assert chunk.streams == (1, 0)
    assert all(type(value) is bool for value in (*chunk.starts, *chunk.ends))
    assert chunk.lengths.dtype == chunk.context.dtype == torch.int64
