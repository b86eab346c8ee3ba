"""The arithmetic of attention in a loop over time, forward and backward, for the hand-written loop of `attentive_scan.py`.

As in `core.nn.recurrence.scan_cells`: a step does what has to wait for the step before, and gradients of what is the same
at every step are made once, after the loop.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from core.nn.attention import AdditiveAttention, Attention, DotAttention
from core.nn.recurrence.products import PackedWeight, weight_gradient


class ScoreScan(ABC):
    """One way of scoring. Rows are sequences, longest first, so that those still running are the first ones.

    Args:
        keys: of the sources, (rows, source, features).
        parameters: what else a score is made of.
        num_rows: rows of each step.
    """

    def __init__(self, keys: Tensor, parameters: Sequence[Tensor], *, num_rows: Sequence[int]) -> None:
        self.keys = keys
        self.parameters = parameters
        self.num_rows = num_rows

    @abstractmethod
    def forward(self, query: Tensor) -> Tensor:
        """Scores (rows, source) of the queries (rows, hidden) of the next step."""

    @abstractmethod
    def prepare_backward(self) -> None:
        """Make room for gradients; backward may run more than once, and begins here."""

    @abstractmethod
    def backward(self, grad_scores: Tensor, *, step: int) -> Tensor:
        """Gradient in the queries of a step, from the last to the first."""

    @abstractmethod
    def gradients(self, queries: Tensor) -> tuple[Tensor, ...]:
        """Gradients of keys and parameters, of all steps; `queries` are those of all steps, (flat, hidden)."""


class AdditiveScan(ScoreScan):
    """v . tanh(W q + k), as 2 v . sigmoid(2 (W q + k)) - sum v: a sigmoid takes half the time of tanh.

    Parameters: W (features, hidden), v (features).
    """

    def __init__(self, keys: Tensor, parameters: Sequence[Tensor], *, num_rows: Sequence[int]) -> None:
        super().__init__(keys, parameters, num_rows=num_rows)
        weight, vector = parameters
        self._project = PackedWeight(2 * weight, dtype=weight.dtype)
        self._doubled = 2 * keys
        self._twice = 2 * vector
        self._shift = vector.sum()
        self._halved: list[Tensor] = []

    def forward(self, query: Tensor) -> Tensor:
        """See the base class."""
        halved = (self._project(query).unsqueeze(1) + self._doubled[: len(query)]).sigmoid_()
        self._halved.append(halved)
        return (halved @ self._twice).sub_(self._shift)

    def prepare_backward(self) -> None:
        """See the base class."""
        weight, vector = self.parameters
        self._factor = 4 * vector
        self._transposed = PackedWeight(weight.t(), dtype=weight.dtype)
        # All but the factor 4 v, which is the same at every step.
        self._grad_keys = torch.zeros_like(self.keys)
        self._grad_vector = torch.zeros_like(vector)
        self._grad_queries = vector.new_empty(sum(self.num_rows), len(vector))
        self._by_step = torch.split(self._grad_queries, list(self.num_rows))

    def backward(self, grad_scores: Tensor, *, step: int) -> Tensor:
        """See the base class."""
        halved = self._halved[step]
        self._grad_vector += 2 * (grad_scores.reshape(-1) @ halved.flatten(0, 1)) - grad_scores.sum()
        slope = torch.addcmul(halved, halved, halved, value=-1.0)
        grad_query = self._by_step[step]
        torch.bmm(grad_scores.unsqueeze(1), slope, out=grad_query.unsqueeze(1)).squeeze(1)
        grad_query.mul_(self._factor)
        self._grad_keys[: len(grad_scores)].addcmul_(slope, grad_scores.unsqueeze(-1))
        return self._transposed(grad_query)

    def gradients(self, queries: Tensor) -> tuple[Tensor, ...]:
        """See the base class."""
        return self._grad_keys.mul_(self._factor), weight_gradient(self._grad_queries, queries), self._grad_vector


class DotScan(ScoreScan):
    """q . k."""

    def forward(self, query: Tensor) -> Tensor:
        """See the base class."""
        return torch.bmm(self.keys[: len(query)], query.unsqueeze(2)).squeeze(2)

    def prepare_backward(self) -> None:
        """See the base class."""
        num_rows, num_source = self.keys.shape[:2]
        self._grad_scores = self.keys.new_zeros(len(self.num_rows), num_rows, num_source)

    def backward(self, grad_scores: Tensor, *, step: int) -> Tensor:
        """See the base class."""
        self._grad_scores[step, : len(grad_scores)] = grad_scores
        return torch.bmm(grad_scores.unsqueeze(1), self.keys[: len(grad_scores)]).squeeze(1)

    def gradients(self, queries: Tensor) -> tuple[Tensor, ...]:
        """See the base class."""
        return (over_steps(self._grad_scores, padded(queries, self.num_rows, like=self.keys)),)


class AttentionScan:
    """Weights and contexts of every step of a loop, and their gradients.

    Args:
        score_type: the way of scoring (`score_scan`).
        memory: keys, values and bias of the sources, in the order of the rows.
        empty: (rows, 1) True where a source has no step; None where none is empty.
        parameters: of the scores.
        num_rows: rows of each step.
    """

    def __init__(
        self,
        score_type: type[ScoreScan],
        memory: tuple[Tensor, Tensor, Tensor],
        *,
        empty: Tensor | None,
        parameters: Sequence[Tensor],
        num_rows: Sequence[int],
    ) -> None:
        keys, self._values, self._bias = memory
        self._empty = empty
        self._num_rows = num_rows
        self._score = score_type(keys, parameters, num_rows=num_rows)

    def forward(self, query: Tensor, *, weights: Tensor, context: Tensor) -> None:
        """Write the weights (rows, source) and the context (rows, features) of the next step."""
        rows = len(query)
        torch.softmax(self._score.forward(query).add_(self._bias[:rows]), -1, out=weights)
        if self._empty is not None:
            weights.masked_fill_(self._empty[:rows], 0.0)
        torch.bmm(weights.unsqueeze(1), self._values[:rows], out=context.unsqueeze(1))

    def prepare_backward(self) -> None:
        """Make room for gradients; backward may run more than once, and begins here."""
        self._score.prepare_backward()
        self._grad_contexts = self._values.new_zeros(len(self._num_rows), *self._values.shape[::2])

    def backward(self, grad_context: Tensor, grad_weights: Tensor | None, *, weights: Tensor, step: int) -> Tensor:
        """Gradient in the queries of a step, from the last to the first."""
        rows = len(weights)
        self._grad_contexts[step, :rows] = grad_context
        by_weights = torch.bmm(self._values[:rows], grad_context.unsqueeze(2)).squeeze(2)
        if grad_weights is not None:
            by_weights.add_(grad_weights)
        # Zero where a source is empty, for its weights are.
        grad_scores = torch.ops.aten._softmax_backward_data(by_weights, weights, -1, weights.dtype)
        return self._score.backward(grad_scores, step=step)

    def gradients(self, queries: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Gradients of keys, values and the scores' parameters, of all steps, in the flat layout."""
        grad_keys, *grad_parameters = self._score.gradients(queries)
        whole = padded(weights, self._num_rows, like=self._values)
        return grad_keys, over_steps(whole, self._grad_contexts), *grad_parameters


def padded(flat: Tensor, num_rows: Sequence[int], *, like: Tensor) -> Tensor:
    """(steps, rows, features) of rows in the flat layout, zeros where a sequence has ended."""
    if num_rows[-1] == len(like):
        return flat.reshape(len(num_rows), len(like), -1)
    whole = flat.new_zeros(len(num_rows), len(like), flat.shape[-1])
    for step, rows in enumerate(torch.split(flat, list(num_rows))):
        whole[step, : len(rows)] = rows
    return whole


def over_steps(left: Tensor, right: Tensor) -> Tensor:
    """(rows, source, features): sum over steps of left (steps, rows, source) times right (steps, rows, features)."""
    return torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1))


def score_scan(attention: Attention) -> tuple[type[ScoreScan], tuple[Tensor, ...]] | None:
    """The arithmetic of an attention's scores and its parameters; None where there is no such loop for it."""
    if isinstance(attention, AdditiveAttention) and not attention.has_coverage:
        return AdditiveScan, (attention.query.weight, attention.score.weight.squeeze(0))
    if isinstance(attention, DotAttention):  # and so general attention, whose keys are projected beforehand
        return DotScan, ()
    return None
