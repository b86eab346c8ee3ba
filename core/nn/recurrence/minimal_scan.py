"""The recurrence of minGRU and minLSTM on CPU: h(t) = h(t-1) + z(t) (n(t) - h(t-1)), with a hand-written backward.

Gates and candidates do not see the state, so a step is one operation, forward and backward; all else is done for many
steps at once, in blocks that stay in the cache.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.cells import CellKind, min_lstm_gates
from core.nn.recurrence.first_derivatives import first_derivatives_only

# Elements of a block: a handful of such float32 tensors fit in the second-level cache of two cores or the third of one.
_BLOCK_ELEMENTS = 1 << 18


class _Block(NamedTuple):
    """Consecutive steps with the same number of rows, in the flat layout."""

    start: int
    stop: int
    num_rows: int
    """Rows of each of its steps."""

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)


def minimal_scan(
    projected: Float[Tensor, "flat gated"],
    *,
    kind: CellKind,
    num_rows: Sequence[int],
    hidden: Float[Tensor, "batch hidden"],
) -> Float[Tensor, "flat hidden"]:
    """The state after every step, in the flat layout of `core.nn.recurrence.ragged`.

    Args:
        projected: U x(t) + b of every step, time-major.
        kind: min_gru or min_lstm.
        num_rows: rows of each step, never growing.
        hidden: the state before the first step; rows beyond `num_rows[0]` are not read.
    """
    exact = torch.promote_types(projected.dtype, hidden.dtype)
    states: Tensor = _MinimalScan.apply(projected.to(exact), kind, list(num_rows), hidden.to(exact))
    return states


class _MinimalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, kind: CellKind, num_rows: list[int], hidden: Tensor) -> Tensor:
        size = hidden.shape[1]
        states = projected.new_empty(projected.shape[0], size)
        gates = torch.empty_like(states)
        blocks = list(_blocks(num_rows, hidden_size=size))
        before = hidden
        for block in blocks:
            gate, candidate = gates[block.rows], projected[block.rows, -size:]
            if kind == "min_gru":
                torch.sigmoid(projected[block.rows, :size], out=gate)
            else:
                gate.copy_(min_lstm_gates(projected[block.rows])[0])
            steps = (torch.split(tensor, block.num_rows) for tensor in (states[block.rows], candidate, gate))
            before = before[: block.num_rows]
            for state, new, share in zip(*steps, strict=True):
                torch.lerp(before, new, share, out=state)
                before = state
        ctx.save_for_backward(hidden, states, gates, *([projected] if kind == "min_lstm" else []))
        ctx.blocks, ctx.gated_size = blocks, projected.shape[1]
        return states

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, Tensor]:
        hidden, states, gates, *projected = ctx.saved_tensors
        size = hidden.shape[1]
        grad_projected = grad.new_empty(grad.shape[0], ctx.gated_size)
        carried = grad.new_empty(0, size)
        for index in range(len(ctx.blocks) - 1, -1, -1):
            block: _Block = ctx.blocks[index]
            gate = gates[block.rows]
            kept = 1 - gate
            total = _total(grad[block.rows], kept, carried, num_rows=block.num_rows)
            torch.mul(total, gate, out=grad_projected[block.rows, -size:])
            # What passes to the state before; with z' = z (1 - z), z' (n - h before) is (1 - z) (h after - h before).
            passed = total.mul_(kept)
            carried = passed[: block.num_rows]
            # Clipped to the rows that go on: the block before may have more.
            first = hidden if index == 0 else states[block.start - ctx.blocks[index - 1].num_rows : block.start]
            after, step = states[block.rows], block.num_rows
            moved = torch.empty_like(after)
            torch.sub(after[:step], first[:step], out=moved[:step])
            torch.sub(after[step:], after[:-step], out=moved[step:])
            if projected:
                # z = sigmoid(log i - log f), and log sigmoid has the slope sigmoid(-x).
                grad_logit = moved.mul_(passed)
                slopes = torch.sigmoid(-projected[0][block.rows, : 2 * size])
                torch.mul(grad_logit, slopes[:, size:], out=grad_projected[block.rows, size : 2 * size])
                torch.mul(grad_logit.neg_(), slopes[:, :size], out=grad_projected[block.rows, :size])
            else:
                torch.mul(moved, passed, out=grad_projected[block.rows, :size])
        grad_hidden = torch.zeros_like(hidden)
        grad_hidden[: carried.shape[0]] = carried
        return grad_projected, None, None, grad_hidden


def _blocks(num_rows: Sequence[int], *, hidden_size: int) -> Iterator[_Block]:
    start = first = 0
    while first < len(num_rows):
        rows = num_rows[first]
        last = first
        most = max(1, _BLOCK_ELEMENTS // max(1, rows * hidden_size))
        while last < len(num_rows) and num_rows[last] == rows and last - first < most:
            last += 1
        stop = start + rows * (last - first)
        yield _Block(start, stop, rows)
        start, first = stop, last


def _total(grad: Tensor, kept: Tensor, carried: Tensor, *, num_rows: int) -> Tensor:
    """Gradient in every state of a block: its own and what the steps after it pass back."""
    total = grad.clone()
    total[grad.shape[0] - num_rows :][: carried.shape[0]] += carried
    totals, shares = torch.split(total, num_rows), torch.split(kept, num_rows)
    for step in range(len(totals) - 2, -1, -1):
        totals[step].addcmul_(shares[step + 1], totals[step + 1])
    return total
