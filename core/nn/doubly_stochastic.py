"""A penalty for what a decoder's attention has never, or too often, looked at."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.nn.losses import MeanOver, SummedLoss, summed_loss


def doubly_stochastic_loss(
    weights: Float[Tensor, "rows time source"],
    lengths: Int[Tensor, "rows"],
    *,
    source_mask: Bool[Tensor, "rows source"],
    mean: MeanOver,
    weight: Float[Tensor, "rows"] | None = None,
) -> SummedLoss:
    """sum_i (1 - sum_t a(t, i))^2 of each row, i over its source steps: every one is to be looked at once, all in all.

    It belongs to a row as the log-probability of the row's tokens does, and is divided by what that is divided by: in the
    mean over tokens by their number, in the mean over sequences by the row's own, and then by the number of rows. So the
    sum of a cross-entropy and of this, over the count of the former, does not depend on how a batch is cut.

    Source: Xu et al., "Show, Attend and Tell", ICML 2015, section 4.2.1, eq. 14.

    Args:
        weights: attention of every step; zeros in the padding of rows.
        lengths: int64, valid steps of each row; one without any is not counted.
        source_mask: True where a source step is valid.
        mean: which mean the loss beside it takes.
        weight: per row, 1 for a real one and 0 for a filler; None where all are real.

    Returns:
        The sum, and the count of the loss beside it.

    Raises:
        ValueError: if shapes do not fit.
    """
    if weights.ndim != 3 or lengths.shape != weights.shape[:1] or source_mask.shape != weights[:, 0].shape:
        raise ValueError(
            "weights, lengths and source_mask must have shapes (rows, time, source), (rows,) and (rows, source), got "
            f"{tuple(weights.shape)}, {tuple(lengths.shape)} and {tuple(source_mask.shape)}."
        )
    looked = weights.sum(1, dtype=torch.promote_types(weights.dtype, torch.float32))
    each = (1.0 - looked).square().masked_fill(~source_mask, 0.0).sum(1)
    count = summed_loss(
        each.new_ones(weights.shape[:2]),
        mask=torch.arange(weights.shape[1], device=lengths.device) < lengths.unsqueeze(1),
        mean=mean,
        weight=weight,
    ).count
    if mean == "sequence":
        each = each / lengths.clamp(min=1)
    total = summed_loss(each, mask=lengths > 0, mean="token", weight=weight).sum
    return SummedLoss(total, count)
