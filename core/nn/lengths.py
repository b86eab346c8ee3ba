"""Valid time steps of padded batches. Lengths are explicit: nothing is ever inferred from zeros.

Only shapes and dtypes are checked here. Values are checked once, where a batch is made: reading them would stall a GPU.
"""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


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
    check_lengths(lengths, batch_size=sequence.shape[0], device=sequence.device)
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
    check_lengths(lengths, batch_size=sequence.shape[0], device=sequence.device)
    batch_size, num_steps = sequence.shape[:2]
    rows = (lengths - 1).clamp(min=0) + num_steps * torch.arange(batch_size, device=lengths.device)
    last = sequence.flatten(0, 1).index_select(0, rows)
    empty = (lengths == 0).reshape(-1, *[1] * (last.ndim - 1))
    return last.masked_fill(empty, 0)


def check_lengths(lengths: Tensor, *, batch_size: int, device: torch.device) -> None:
    """Refuse lengths whose shape, dtype or device does not fit the batch.

    Raises:
        ValueError: saying what was expected and what was got.
    """
    if lengths.dtype != torch.int64:
        raise ValueError(f"lengths must be int64, got {lengths.dtype}. Convert them with lengths.long().")
    if lengths.ndim != 1 or lengths.shape[0] != batch_size:
        raise ValueError(
            f"lengths must have one entry per example, shape ({batch_size},), got {tuple(lengths.shape)}. "
            "Tensors are batch-first: (batch, time, features)."
        )
    if lengths.device != device:
        raise ValueError(f"lengths must be on {device}, where the inputs are, got {lengths.device}.")
