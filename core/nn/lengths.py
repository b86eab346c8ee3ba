"""Valid time steps of padded batches. Lengths are explicit: nothing is ever inferred from zeros.

Values are checked on CPU alone: reading them would stall a GPU, and break a trace. There they are right because they were
checked where the batch was made.
"""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from core.nn.recurrence.ragged import may_look_at


def valid_steps(lengths: Int[Tensor, "batch"], num_steps: int) -> Bool[Tensor, "batch time"]:
    """True where a time step is inside its sequence."""
    return torch.arange(num_steps, device=lengths.device) < lengths.unsqueeze(-1)


def reverse_within_lengths(
    sequence: Shaped[Tensor, "batch time *features"], lengths: Int[Tensor, "batch"]
) -> Shaped[Tensor, "batch time *features"]:
    """Each sequence back to front inside its own length; the padding stays where it is. Its own inverse.

    Raises:
        ValueError: if the lengths do not fit the batch.
    """
    check_lengths(lengths, of=sequence)
    batch_size, num_steps = sequence.shape[:2]
    step = torch.arange(num_steps, device=lengths.device)
    mirrored = lengths.unsqueeze(-1) - 1 - step
    source = torch.where(mirrored >= 0, mirrored, step)
    rows = source + num_steps * torch.arange(batch_size, device=lengths.device).unsqueeze(-1)
    return sequence.flatten(0, 1).index_select(0, rows.flatten()).reshape(sequence.shape)


def last_valid_step(
    sequence: Shaped[Tensor, "batch time *features"], lengths: Int[Tensor, "batch"]
) -> Shaped[Tensor, "batch *features"]:
    """What stands at step length - 1 of each sequence; zeros for a sequence of length 0.

    Raises:
        ValueError: if the lengths do not fit the batch.
    """
    check_lengths(lengths, of=sequence)
    batch_size, num_steps = sequence.shape[:2]
    rows = (lengths - 1).clamp(min=0) + num_steps * torch.arange(batch_size, device=lengths.device)
    last = sequence.flatten(0, 1).index_select(0, rows)
    empty = (lengths == 0).reshape(-1, *[1] * (last.ndim - 1))
    return last.masked_fill(empty, 0)


def check_lengths(lengths: Tensor, *, of: Shaped[Tensor, "batch time *features"], at_least: int = 0) -> None:
    """Refuse lengths that do not fit a padded batch; their values are read on CPU alone, where that costs nothing.

    Args:
        lengths: what is checked.
        of: the batch.
        at_least: fewest valid steps of a sequence.

    Raises:
        ValueError: saying what was expected and what was got.
    """
    if lengths.dtype != torch.int64:
        raise ValueError(f"lengths must be int64, got {lengths.dtype}. Convert them with lengths.long().")
    if lengths.ndim != 1 or lengths.shape[0] != of.shape[0]:
        raise ValueError(
            f"lengths must have one entry per example, shape ({of.shape[0]},), got {tuple(lengths.shape)}. "
            "Tensors are batch-first: (batch, time, features)."
        )
    if lengths.device != of.device:
        raise ValueError(f"lengths must be on {of.device}, where the inputs are, got {lengths.device}.")
    if not may_look_at(lengths) or not len(lengths):
        return
    shortest, longest = (int(value) for value in torch.aminmax(lengths))
    if shortest < at_least or longest > of.shape[1]:
        wrong = shortest if shortest < at_least else longest
        row = int((lengths == wrong).nonzero()[0])
        raise ValueError(
            f"lengths must be from {at_least} to the {of.shape[1]} steps of the batch, got {wrong} in row {row}."
        )
