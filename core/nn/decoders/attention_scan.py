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
