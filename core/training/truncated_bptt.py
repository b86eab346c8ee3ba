"""Truncated back-propagation through time: chunks of long sequences, the state carried from each to the next (notes N6).

The batch plan cuts a sequence in chunks of k2 steps that move on by k1 (`data/streams.py`); each is an ordinary batch and
an ordinary optimiser step. `run_streams` runs the recurrent layer over it from the carried state. The next chunk starts
k1 steps after this one, so the layer runs twice: over the first k1 steps, after which a copy of the state without its
history is kept for the next chunk, and over the rest from that same state with its history. So the gradient reaches
back through the whole chunk and no further, whatever the length of the sequence, and so does memory.

Source: Williams & Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories",
Neural Computation 2, 1990: BPTT(h; h') with h = k2 and h' = k1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.nn.cells import RecurrentState
from core.nn.lengths import valid_steps
from core.nn.recurrent import Recurrent
from core.training.process.group import gather_over_processes


class ChunkOfStreams(Protocol):
    """Where the rows of a batch stand in their streams; what the data side hands over."""

    @property
    def streams(self) -> Sequence[int]:
        """The stream of each row; negative for a filler."""
        ...

    @property
    def starts(self) -> Sequence[bool]:
        """Whether the row's chunk is its stream's first."""
        ...

    @property
    def ends(self) -> Sequence[bool]:
        """Whether the row's chunk is its stream's last."""
        ...

    @property
    def shift(self) -> int:
        """Steps after which the state is carried to the stream's next chunk (k1)."""
        ...

    @property
    def lengths(self) -> Tensor:
        """Valid steps of each row, int64 `(batch,)`."""
        ...

    @property
    def context(self) -> Tensor:
        """Steps at the start of each row that an earlier chunk has counted, int64 `(batch,)`."""
        ...


class Snapshot(NamedTuple):
    """What `StreamStates` held at some time."""

    rows: dict[int, RecurrentState]
    loaded: dict[int, RecurrentState]
    moved_on: bool


class StreamStates:
    """The states that streams continue from, by stream.

    Rows without a history: what is put is detached. A stream that has ended is forgotten.
    """

    def __init__(self) -> None:
        self._rows: dict[int, RecurrentState] = {}
        # All streams of the checkpoint, also those that other processes go on with.
        self._loaded: dict[int, RecurrentState] = {}
        self._moved_on = False

    def __len__(self) -> int:
        return len(self._rows if self._moved_on else self._loaded)

    def reset(self) -> None:
        """Forget all states: an epoch begins."""
        self._rows, self._loaded, self._moved_on = {}, {}, False

    def take(self, streams: Sequence[int], *, starts: Sequence[bool], initial: RecurrentState) -> RecurrentState:
        """The states that the rows of a batch continue from.

        Args:
            streams: the stream of each row; negative for a filler, which starts from `initial`.
            starts: whether the row is its stream's first chunk, which starts from `initial` (learned or zeros).
            initial: the state before the first step, a row for each row of the batch.

        Raises:
            ValueError: where a row continues a stream whose state is not here.
        """
        continued = [row for row, stream in enumerate(streams) if stream >= 0 and not starts[row]]
        carried = []
        for row in continued:
            state = self._rows.get(streams[row], self._loaded.get(streams[row]))
            if state is None:
                raise ValueError(
                    f"Row {row} of the batch continues stream {streams[row]}, but this process holds no state of it. The "
                    "chunks of a stream must come one after the other, at the same place of each global batch, from its "
                    "first on: use a plan of streams, not one that shuffles chunks."
                )
            carried.append(state)
        if not carried:
            return initial
        rows = torch.tensor(continued, device=initial.hidden.device)
        hidden = _replaced(initial.hidden, rows, [state.hidden for state in carried])
        if initial.cell is None:
            return RecurrentState(hidden)
        return RecurrentState(
            hidden, _replaced(initial.cell, rows, [state.cell for state in carried if state.cell is not None])
        )

    def put(self, streams: Sequence[int], *, ends: Sequence[bool], state: RecurrentState) -> None:
        """Keep the states after a chunk, without their history; streams that end are forgotten, fillers never known."""
        state = state.detach()
        hidden = torch.split(state.hidden, 1, dim=1)
        cell = [None] * len(hidden) if state.cell is None else torch.split(state.cell, 1, dim=1)
        for row, stream in enumerate(streams):
            if stream < 0:
                continue
            if ends[row]:
                self._rows.pop(stream, None)
            else:
                self._rows[stream] = RecurrentState(hidden[row], cell[row])
        self._moved_on = True

    def snapshot(self) -> Snapshot:
        """The states as they are now, at no cost in memory while nothing moves on."""
        return Snapshot(dict(self._rows), dict(self._loaded), self._moved_on)

    @contextmanager
    def preserved(self, *, at: Snapshot | None = None) -> Iterator[None]:
        """Compute a batch a second time, to look at it, and leave the states as they are.

        Args:
            at: the states to begin the block with; None: as they are.
        """
        now = self.snapshot()
        if at is not None:
            self._restore(at)
        try:
            yield
        finally:
            self._restore(now)

    def _restore(self, snapshot: Snapshot) -> None:
        # Copied: a block may begin with the same snapshot twice.
        self._rows, self._loaded, self._moved_on = dict(snapshot.rows), dict(snapshot.loaded), snapshot.moved_on

    def state_dict(self) -> dict[str, Any] | None:
        """The states of all processes together as plain data on the CPU, None where there is none.

        A collective call: every process makes it, at the end of a global batch.
        """
        rows: dict[int, RecurrentState] = {}
        for of_process in _gather((self._rows if self._moved_on else self._loaded), self._moved_on):
            rows.update(of_process)
        if not rows:
            return None
        streams = sorted(rows)
        cells = [rows[stream].cell for stream in streams]
        return {
            "streams": streams,
            "hidden": torch.cat([rows[stream].hidden for stream in streams], dim=1),
            "cell": None if cells[0] is None else torch.cat([cell for cell in cells if cell is not None], dim=1),
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take up stored states; each process goes on with those of its own streams, however many there are now."""
        self.reset()
        if state is None:
            return
        cells = [None] * len(state["streams"]) if state["cell"] is None else torch.split(state["cell"], 1, dim=1)
        for stream, hidden, cell in zip(state["streams"], torch.split(state["hidden"], 1, dim=1), cells, strict=True):
            self._loaded[stream] = RecurrentState(hidden, cell)


def _replaced(initial: Tensor, rows: Tensor, carried: Sequence[Tensor]) -> Tensor:
    values = torch.cat([row.to(initial.device) for row in carried], dim=1)
    # Under autocast a kernel may return its state in another precision than the weights have; that one is carried on.
    return initial.to(values.dtype).index_copy(1, rows, values)


def _gather(rows: dict[int, RecurrentState], moved_on: bool) -> list[dict[int, RecurrentState]]:
    """What each process holds, on the CPU; those of a checkpoint, which all hold, only while nobody has moved on."""
    everywhere = gather_over_processes((moved_on, {stream: state.to("cpu") for stream, state in rows.items()}))
    any_moved = any(moved for moved, _ in everywhere)
    return [held for moved, held in everywhere if moved == any_moved]


def run_chunk(
    recurrent: Recurrent,
    inputs: Float[Tensor, "batch time features"],
    *,
    lengths: Int[Tensor, "batch"],
    state: RecurrentState,
    shift: int,
) -> tuple[Float[Tensor, "batch time outputs"], RecurrentState]:
    """Outputs of a chunk, and the state after its first `shift` steps without its history.

    A dropout mask that a layer draws once for all steps is drawn twice where chunks overlap, for the steps before `shift`
    and for those after.

    Args:
        recurrent: the recurrent layers, of one direction.
        inputs: padded chunks.
        lengths: valid steps of each chunk.
        state: the state before the first step.
        shift: steps after which the next chunk starts (k1), at least 1.

    Raises:
        ValueError: for a bidirectional layer, or a shift below 1.
    """
    if recurrent.config.bidirectional:
        raise ValueError(
            "Truncated back-propagation through time carries a state forward, but a bidirectional layer also reads from "
            "the end of the sequence. Set recurrent.bidirectional to false, or train on whole sequences."
        )
    if shift < 1:
        raise ValueError(f"shift must be at least 1 step, got {shift}.")
    if inputs.shape[1] <= shift:
        outputs, last = recurrent(inputs, lengths, state)
        return outputs, last.detach()
    first, carried = recurrent(inputs[:, :shift], lengths.clamp(max=shift), state)
    rest, _ = recurrent(inputs[:, shift:], (lengths - shift).clamp(min=0), carried)
    return torch.cat([first, rest], dim=1), carried.detach()


def run_streams(
    recurrent: Recurrent,
    inputs: Float[Tensor, "batch time features"],
    *,
    chunk: ChunkOfStreams,
    states: StreamStates,
) -> Float[Tensor, "batch time outputs"]:
    """Run one chunk of each stream from where its last one left off; `states` is moved on.

    Raises:
        ValueError: see `run_chunk` and `StreamStates.take`.
    """
    state = states.take(chunk.streams, starts=chunk.starts, initial=recurrent.initial_state(len(inputs)))
    # Where nothing is carried on, one call does.
    shift = inputs.shape[1] if all(chunk.ends) else chunk.shift
    outputs, carried = run_chunk(recurrent, inputs, lengths=chunk.lengths, state=state, shift=shift)
    states.put(chunk.streams, ends=chunk.ends, state=carried)
    return outputs


def counted_steps(chunk: ChunkOfStreams, num_steps: int) -> Bool[Tensor, "batch time"]:
    """True where a step is counted in this chunk: inside its stream, and in no earlier chunk."""
    return valid_steps(chunk.lengths, num_steps) & ~valid_steps(chunk.context, num_steps)
