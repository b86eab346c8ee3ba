"""The score of additive attention, in few passes over memory.

Its hidden layer has a unit for every query, source step and hidden unit: by far the largest tensor of a decoder, and
what is done to it takes as long as reading and writing it, but for tanh, which takes ten times as long. Written as
tanh(x) = 2 sigmoid(2x) - 1 it does not (the error, 2e-7 in float32, is absolute, and the score is a sum of such terms);
its derivative is 4 y (1 - y), y the sigmoid.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.precision import is_autocast
from core.nn.recurrence.ragged import is_traced

Score = Callable[[Tensor, Tensor | None], Tensor]
"""(query, coverage) -> scores."""


def additive_score(keys: Tensor, vector: Tensor, *, coverage_weight: Tensor | None = None) -> Score:
    """The function `query, coverage -> v . tanh(query + keys + coverage w)` for many calls; first derivatives only.

    Source: Bahdanau et al., ICLR 2015, appendix A.1.2; the coverage term See et al., ACL 2017, eq. 11.

    Args:
        keys: (examples, source, hidden).
        vector: v, (hidden).
        coverage_weight: w, (hidden); None for a score without coverage.

    Returns:
        A function of query (examples, queries, hidden) and coverage (examples, queries, source), None without
        `coverage_weight`, that gives scores (examples, queries, source).
    """
    if is_traced() or is_autocast(keys.device) or keys.dtype not in (torch.float32, torch.float64):
        # A traced graph is optimised by others, and in half precision the sigmoid would lose what tanh keeps near 0.
        return lambda query, coverage: torch.tanh(_sum(query, keys, coverage, coverage_weight)) @ vector
    doubled = _DoubleKeys.apply(keys, vector)

    def score(query: Tensor, coverage: Tensor | None) -> Tensor:
        scores: Tensor = _AdditiveScore.apply(query, doubled, vector, coverage, coverage_weight)
        return scores

    return score


def _sum(query: Tensor, keys: Tensor, coverage: Tensor | None, coverage_weight: Tensor | None) -> Tensor:
    hidden = query.unsqueeze(2) + keys.unsqueeze(1)
    if coverage is not None and coverage_weight is not None:
        hidden = hidden + coverage.unsqueeze(-1) * coverage_weight
    return hidden


class _DoubleKeys(torch.autograd.Function):
    """2 k. The gradient that comes back lacks the factor 2 v, which is the same in all the calls that it sums up."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, vector: Tensor) -> Tensor:
        ctx.save_for_backward(vector)
        return 2 * keys

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (vector,) = ctx.saved_tensors
        return grad * (4 * vector), None


class _AdditiveScore(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, doubled: Tensor, vector: Tensor, coverage: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        halved = _sum(2 * query, doubled, coverage, None if weight is None else 2 * weight).sigmoid_()
        ctx.save_for_backward(halved, vector, coverage, weight)
        return (halved @ (2 * vector)).sub_(vector.sum())

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        halved, vector, coverage, weight = ctx.saved_tensors
        grad_vector = 2 * (grad.reshape(-1) @ halved.flatten(0, 2)) - grad.sum()
        # All gradients of the sum inside tanh lack the factor 4 v until they have been summed up.
        slope = torch.addcmul(halved, halved, halved, value=-1.0)
        factor = 4 * vector
        grad_query = torch.matmul(grad.unsqueeze(2), slope).squeeze(2).mul_(factor)
        grad_sum = slope.mul_(grad.unsqueeze(-1))
        grad_doubled = grad_sum.squeeze(1) if grad_sum.shape[1] == 1 else grad_sum.sum(1)
        grad_coverage = grad_weight = None
        if coverage is not None:
            grad_coverage = grad_sum @ (factor * weight)
            grad_weight = (coverage.reshape(-1) @ grad_sum.flatten(0, 2)).mul_(factor)
        return grad_query, grad_doubled, grad_vector, grad_coverage, grad_weight
