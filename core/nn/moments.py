"""What a sequence is on the whole, without recurrence: mean, standard deviation and slope over time of each feature.

All are kept as sums over the steps of what differs from the first one: a sequence can be read as it comes, and one that does
not change deviates by nothing, to the last bit.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.nn.lengths import check_lengths, valid_steps

NUM_MOMENTS = 3

_LEAST_VARIANCE = 1e-5
"""Added before the root, whose gradient at 0 is infinite."""


class MomentsSoFar(NamedTuple):
    """What is kept of the steps that have been."""

    num_steps: Int[Tensor, "batch"]
    first: Float[Tensor, "batch features"]
    total: Float[Tensor, "batch features"]
    """Sum of what differs from the first."""
    squares: Float[Tensor, "batch features"]
    products: Float[Tensor, "batch features"]
    """Sum of what differs, times the number of the step from 0 on."""


def moments(
    vectors: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch moments"]:
    """Mean, standard deviation and slope of every feature over the valid steps, one after the other.

    The slope is the mean of the values weighted by their place, from -1 at the first step to 1 at the last; a sequence of one
    step has none.

    Args:
        vectors: what stands in their padding is not read.
        lengths: int64, steps of each sequence, at least 1.

    Raises:
        ValueError: where the lengths do not fit.
    """
    check_lengths(lengths, of=vectors, at_least=1)
    first = vectors[:, 0]
    away = (vectors - first.unsqueeze(1)).masked_fill(~valid_steps(lengths, vectors.shape[1]).unsqueeze(-1), 0.0)
    places = torch.arange(vectors.shape[1], device=vectors.device, dtype=vectors.dtype)
    products = torch.einsum("t,btf->bf", places, away)
    return _of_sums(MomentsSoFar(lengths, first, away.sum(1), away.square().sum(1), products))


def moments_step(
    vector: Float[Tensor, "batch features"], so_far: MomentsSoFar | None
) -> tuple[Float[Tensor, "batch moments"], MomentsSoFar]:
    """The moments of all steps up to this one, and what is kept for the next.

    Args:
        vector: of this step.
        so_far: what the step before gave; None at the first.
    """
    if so_far is None:
        zeros = torch.zeros_like(vector)
        number = torch.ones(vector.shape[0], dtype=torch.int64, device=vector.device)
        now = MomentsSoFar(number, vector, zeros, zeros, zeros)
    else:
        number, first, total, squares, products = so_far
        away = vector - first
        # Steps are numbered from 0 on, so that this one has the number of those before it.
        place = number.unsqueeze(-1).to(vector.dtype)
        now = MomentsSoFar(number + 1, first, total + away, squares + away.square(), products + place * away)
    return _of_sums(now), now


def moments_of_prefixes(vectors: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time moments"]:
    """At every step the moments of all steps up to it."""
    found, so_far = [], None
    for vector in vectors.unbind(1):
        now, so_far = moments_step(vector, so_far)
        found.append(now)
    return torch.stack(found, dim=1)


def _of_sums(sums: MomentsSoFar) -> Tensor:
    number = sums.num_steps.unsqueeze(-1).to(sums.first.dtype)
    mean = sums.total / number
    variance = (sums.squares / number - mean.square()).clamp(min=0.0)
    # Places are centred, so that what all steps share adds nothing.
    half = (number - 1) / 2
    slope = (sums.products - half * sums.total) / (number * half.clamp(min=0.5))
    return torch.cat([sums.first + mean, (variance + _LEAST_VARIANCE).sqrt(), slope], dim=-1)
