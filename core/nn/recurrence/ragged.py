"""Where the time steps of a ragged batch are put, so that dense kernels run over them without packing.

A batch is cut along time into a few blocks. Sequences are sorted by length, so the rows still running at a block's
start are its first ones, and each block is a dense rectangle (steps, rows) with the state handed from block to block:

    length 7   a a a | a a | a a        three blocks: 3 x 3, 2 x 2 and 2 x 1 steps,
    length 5   b b b | b b |            sum of steps = longest length (cutting the batch in groups
    length 2   c c . |                  of like length would run each group's steps one after the other)

The rectangles lie one after the other in one flat tensor (rows, features), time-major inside a rectangle.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# More candidate cuts than this are thinned out: choosing among them costs more than the padding they would save.
_MAX_CANDIDATES = 32


class Block(NamedTuple):
    """A rectangle of the plan: the first `num_rows` sequences (longest first) over time steps [start, stop)."""

    start: int
    stop: int
    num_rows: int

    @property
    def size(self) -> int:
        """Rows this block takes in the flat tensor."""
        return (self.stop - self.start) * self.num_rows


class RaggedPlan(NamedTuple):
    """Row numbers that carry a padded batch into the flat tensor and back, on the batch's device."""

    blocks: tuple[Block, ...]
    has_padding: bool
    """False when every row of every block is known to be a valid step."""
    is_dense: bool
    """True when every step of the padded batch is known to be valid: then both layouts differ by a transposition."""
    order: Int[Tensor, "batch"]
    """The batch's sequences, longest first where the plan has more than one block."""
    rank: Int[Tensor, "batch"]
    """Inverse of `order`."""
    source: Int[Tensor, "flat"]
    """For each flat row, its row in the batch seen as (batch x time) rows; any row where not `valid`."""
    valid: Bool[Tensor, "flat"]
    target: Int[Tensor, "batch_time"]
    """Inverse of `source`: for each padded position its flat row; any row where not `steps`."""
    steps: Bool[Tensor, "batch_time"]
    mirror: Int[Tensor, "flat"]
    """Reverses each sequence within its length; padding stays. Its own inverse."""
    last: Int[Tensor, "batch"]
    """The flat row of each sequence's last valid step; any row for a sequence of length 0."""

    @property
    def num_rows(self) -> list[int]:
        """Rows of each time step, never growing."""
        return [block.num_rows for block in self.blocks for _ in range(block.start, block.stop)]

    def sort(self, rows: Float[Tensor, "batch *features"]) -> Float[Tensor, "batch *features"]:
        """One row a sequence, in the order of the flat layout."""
        if self.is_dense:
            return rows
        flat = rows.flatten(1) if rows.ndim > 1 else rows.unsqueeze(1)
        sorted_rows = permute_rows(flat, self.order, None, inverse=self.rank, inverse_mask=None)
        return sorted_rows.reshape(rows.shape)

    def gather(self, inputs: Float[Tensor, "batch time features"]) -> Float[Tensor, "flat features"]:
        """Into the flat layout, zeros in what padding is left."""
        if self.is_dense:
            return inputs.transpose(0, 1).flatten(0, 1)
        rows = inputs.flatten(0, 1)
        return permute_rows(rows, self.source, self.valid, inverse=self.target, inverse_mask=self.steps)

    def scatter(self, flat: Float[Tensor, "flat features"], *, num_steps: int) -> Float[Tensor, "batch time features"]:
        """Back into the padded batch, zeros in the padding."""
        if self.is_dense:
            return flat.reshape(num_steps, -1, flat.shape[-1]).transpose(0, 1)
        rows = permute_rows(flat, self.target, self.steps, inverse=self.source, inverse_mask=self.valid)
        return rows.reshape(-1, num_steps, rows.shape[-1])

    def reverse(self, flat: Float[Tensor, "flat features"]) -> Float[Tensor, "flat features"]:
        """Each sequence back to front."""
        if self.is_dense:
            return flat.reshape(self.blocks[0].stop, -1, flat.shape[-1]).flip(0).flatten(0, 1)
        return permute_rows(flat, self.mirror, None, inverse=self.mirror, inverse_mask=None)


def is_traced() -> bool:
    """Whether a compiler or exporter is reading this code."""
    return torch.compiler.is_compiling() or torch.compiler.is_exporting()


def may_look_at(tensor: Tensor) -> bool:
    """Reading values stalls a GPU and breaks a trace; on CPU it is free."""
    return tensor.device.type == "cpu" and not is_traced()


class _PermuteRows(torch.autograd.Function):
    """Row selection whose backward is a selection too.

    Rows move one to one, so the gradient can be read back through the inverse; `index_select` alone would add row by
    row into zeros, several times slower on CPU.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, index: Tensor, mask: Tensor | None, inverse: Tensor, inverse_mask: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(index, mask, inverse, inverse_mask)
        return _select_rows(rows, index, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        index, mask, inverse, inverse_mask = ctx.saved_tensors
        return permute_rows(grad, inverse, inverse_mask, inverse=index, inverse_mask=mask), None, None, None, None


def _select_rows(rows: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
    # Filled, not multiplied by 0: NaN or infinity in the padding must not get through.
    selected = rows.index_select(0, index)
    if mask is None:
        return selected
    if may_look_at(rows):
        # Touches the padding alone, an order of magnitude less memory than a mask over all; row numbers stall a GPU.
        return selected.index_fill_(0, mask.logical_not().nonzero().squeeze(1), 0.0)
    return torch.where(mask.unsqueeze(-1), selected, 0.0)


def permute_rows(
    rows: Float[Tensor, "rows features"],
    index: Int[Tensor, "selected"],
    mask: Bool[Tensor, "selected"] | None,
    *,
    inverse: Int[Tensor, "rows"],
    inverse_mask: Bool[Tensor, "rows"] | None,
) -> Float[Tensor, "selected features"]:
    """`rows[index]`, zeros where not `mask`; `inverse` says for each input row where it went.

    Masked or not, a row is read at most once where the mask is True: that is what makes the inverse the gradient.
    """
    if is_traced() or not (torch.is_grad_enabled() and rows.requires_grad):
        return _select_rows(rows, index, mask)
    permuted: Tensor = _PermuteRows.apply(rows, index, mask, inverse, inverse_mask)
    return permuted


def cut_blocks(lengths: Sequence[int], *, block_cost: float | None) -> tuple[Block, ...]:
    """The cheapest blocks for these lengths, at a cost of steps x rows each plus `block_cost` (in steps x rows).

    Cuts fall on lengths that occur: between two of them no row ends, and a cut gains nothing. A dynamic programme
    chooses among them; where a cut costs nothing (None), all are made and no padding is left.
    """
    descending = sorted(lengths, reverse=True)
    ends = sorted({length for length in descending if length > 0})
    if not ends:
        return ()
    if block_cost is None:
        starts = [0, *ends[:-1]]
        ascending = descending[::-1]
        return tuple(
            Block(start, stop, len(ascending) - bisect_right(ascending, start))
            for start, stop in zip(starts, ends, strict=True)
        )
    if len(ends) > _MAX_CANDIDATES:
        ends = [ends[(i + 1) * len(ends) // _MAX_CANDIDATES - 1] for i in range(_MAX_CANDIDATES)]
    starts = [0, *ends[:-1]]
    rows_from = [sum(length > start for length in descending) for start in starts]
    best = [0.0]
    previous = []
    for stop, end in enumerate(ends, start=1):
        cost, first = min(
            (best[first] + (end - starts[first]) * rows_from[first] + block_cost, first) for first in range(stop)
        )
        best.append(cost)
        previous.append(first)
    blocks = []
    stop = len(ends)
    while stop:
        first = previous[stop - 1]
        blocks.append(Block(starts[first], ends[stop - 1], rows_from[first]))
        stop = first
    return tuple(reversed(blocks))


def plan_dense(batch_size: int, *, num_steps: int, device: torch.device) -> RaggedPlan:
    """One block over a batch in which every step is valid."""
    full = torch.full((batch_size,), num_steps, dtype=torch.int64, device=device)
    return plan_rectangle(full, num_steps=num_steps)._replace(has_padding=False, is_dense=True)


def plan_rectangle(lengths: Int[Tensor, "batch"], *, num_steps: int) -> RaggedPlan:
    """One block over the whole padded batch, made without looking at the lengths: for GPUs, compilers and exporters."""
    order = torch.arange(lengths.shape[0], device=lengths.device)
    blocks = (Block(0, num_steps, lengths.shape[0]),)
    return _plan(lengths, num_steps=num_steps, blocks=blocks, order=order, rank=order, has_padding=True)


def plan_blocks(lengths: Int[Tensor, "batch"], *, num_steps: int, block_cost: float | None) -> RaggedPlan:
    """The cheapest blocks for these lengths (`cut_blocks`), which are read: for CPU tensors, where that costs nothing."""
    values: list[int] = lengths.tolist()
    blocks = cut_blocks(values, block_cost=block_cost)
    if not blocks:
        return plan_rectangle(lengths, num_steps=num_steps)
    order = torch.argsort(lengths, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(values))
    has_padding = sum(block.size for block in blocks) > sum(values)
    return _plan(lengths, num_steps=num_steps, blocks=blocks, order=order, rank=rank, has_padding=has_padding)


def _plan(
    lengths: Tensor, *, num_steps: int, blocks: tuple[Block, ...], order: Tensor, rank: Tensor, has_padding: bool
) -> RaggedPlan:
    sorted_lengths = lengths.index_select(0, order)
    device = lengths.device
    time_of_row, rank_of_row, first_row = [], [], []
    offset = 0
    for block in blocks:
        steps = torch.arange(block.start, block.stop, device=device)
        rows = torch.arange(block.num_rows, device=device)
        time_of_row.append(steps.unsqueeze(1).expand(-1, block.num_rows).flatten())
        rank_of_row.append(rows.unsqueeze(0).expand(block.stop - block.start, -1).flatten())
        first_row.append(offset + (steps - block.start) * block.num_rows)
        offset += block.size
    time, ranks, first = torch.cat(time_of_row), torch.cat(rank_of_row), torch.cat(first_row)
    length_of_row = sorted_lengths.index_select(0, ranks)
    valid = time < length_of_row
    mirrored = first.index_select(0, (length_of_row - 1 - time).clamp(min=0)) + ranks
    # Steps after the longest sequence have no row; the mask keeps whatever row 0 holds from them.
    padded_first = torch.cat([first, first.new_zeros(num_steps - blocks[-1].stop)])
    steps_valid = (torch.arange(num_steps, device=device) < lengths.unsqueeze(1)).flatten()
    target = (padded_first + rank.unsqueeze(1)).flatten()
    return RaggedPlan(
        blocks=blocks,
        has_padding=has_padding,
        is_dense=False,
        order=order,
        rank=rank,
        source=order.index_select(0, ranks) * num_steps + time,
        valid=valid,
        target=torch.where(steps_valid, target, 0),
        steps=steps_valid,
        mirror=torch.where(valid, mirrored, torch.arange(time.shape[0], device=device)),
        last=torch.where(lengths > 0, first.index_select(0, (lengths - 1).clamp(min=0)) + rank, 0),
    )
