"""The reductions of `core.nn.pooling`, one step after the other: what they would give of a sequence that ended here.

A network that reads a sequence as it comes pools it in constant memory. The results are those of the whole sequence.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.nn.pooling import AttentivePooling, LastPooling, MaxPooling, MeanPooling


class PooledSoFar(NamedTuple):
    """What is kept of the steps that have been."""

    values: Float[Tensor, "batch features"]
    """Their sum, weighted sum or largest values, as the kind of pooling asks."""
    weight: Float[Tensor, "batch"]
    """Sum of the weights of `values`."""
    largest: Float[Tensor, "batch"]
    """The largest score there was; weights are relative to it, so that none overflows."""


def pool_step(
    pooling: nn.Module, output: Float[Tensor, "batch features"], so_far: PooledSoFar | None
) -> tuple[Float[Tensor, "batch features"], PooledSoFar]:
    """The reduction of all steps up to this one, and what is kept for the next.

    Args:
        pooling: one that `core.nn.pooling.build_pooling` gave, of a layer that reads forward.
        output: of this step.
        so_far: what the step before gave; None at the first.

    Raises:
        ValueError: for a bidirectional layer's pooling, which has to have seen the end.
    """
    if isinstance(pooling, LastPooling):
        if pooling.bidirectional:
            raise ValueError(
                "A bidirectional layer reads a sequence from its end too: it cannot be pooled as it comes."
            )
        return output, _kept(output, output)
    if isinstance(pooling, MaxPooling):
        values = output if so_far is None else torch.maximum(so_far.values, output)
        return values, _kept(values, output)
    if isinstance(pooling, MeanPooling):
        score = output.new_zeros(output.shape[0])
    elif isinstance(pooling, AttentivePooling):
        score = pooling.score(output).squeeze(-1)
    else:
        raise ValueError(f"{type(pooling).__name__} is no pooling of core.nn.pooling.")
    if so_far is None:
        return output, PooledSoFar(output, torch.ones_like(score), score)
    largest = torch.maximum(so_far.largest, score)
    before, now = torch.exp(so_far.largest - largest), torch.exp(score - largest)
    values = so_far.values * before.unsqueeze(-1) + output * now.unsqueeze(-1)
    weight = so_far.weight * before + now
    return values / weight.unsqueeze(-1), PooledSoFar(values, weight, largest)


def pool_prefixes(
    pooling: nn.Module, outputs: Float[Tensor, "batch time features"]
) -> Float[Tensor, "batch time features"]:
    """At every step the reduction of all steps up to it.

    Raises:
        ValueError: see `pool_step`.
    """
    pooled, so_far = [], None
    for output in outputs.unbind(1):
        now, so_far = pool_step(pooling, output, so_far)
        pooled.append(now)
    return torch.stack(pooled, dim=1)


def _kept(values: Tensor, output: Tensor) -> PooledSoFar:
    """Of a reduction that has no weights."""
    ones = output.new_ones(output.shape[0])
    return PooledSoFar(values, ones, ones)
