"""Many-to-one reductions of a recurrent layer's outputs (notes N5).

All take padded outputs (batch, time, features) with lengths and give (batch, features). Lengths are at least 1: a mean of
nothing has no value. Only `last` has one for a sequence without a step, zeros.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.lengths import check_lengths, last_valid_step, valid_steps
from core.nn.recurrence.precision import check_like

PoolingKind = Literal["last", "mean", "max", "attention"]


class LastPooling(nn.Module):
    """What each direction holds after its last step.

    Forward: the output at length - 1. Backward, which reads from the end: the output at step 0; its output at the last
    step has seen that one step alone.
    """

    def __init__(self, *, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional

    def forward(
        self, outputs: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch features"]:
        """Outputs of a bidirectional layer have the forward half first."""
        _check_outputs(outputs)
        if not self.bidirectional:
            return last_valid_step(outputs, lengths)
        if outputs.shape[-1] % 2:
            raise ValueError(
                f"outputs of two directions must have a forward and a backward half, got shape {tuple(outputs.shape)}."
            )
        forward, backward = outputs.chunk(2, dim=-1)
        return torch.cat([last_valid_step(forward, lengths), backward[:, 0]], dim=-1)


class MeanPooling(nn.Module):
    """Mean over the valid steps."""

    def forward(
        self, outputs: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch features"]:
        """Every valid step weighs the same."""
        return _fill_padding(outputs, lengths, 0.0).sum(1) / lengths.unsqueeze(-1).to(outputs.dtype)


class MaxPooling(nn.Module):
    """Largest value of each feature over the valid steps (Collobert et al., JMLR 12, 2011, section 3.3.2)."""

    def forward(
        self, outputs: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch features"]:
        """Each feature takes its maximum from a step of its own."""
        return _fill_padding(outputs, lengths, -torch.inf).amax(1)


class AttentivePooling(nn.Module):
    """Weighted mean over valid time steps, with learned scores.

    score(t) = v . tanh(W h(t) + b);  weights = softmax over the valid steps of each sequence.
    Source: Yang et al., "Hierarchical Attention Networks", NAACL 2016, eq. 5-7.
    """

    def __init__(self, num_features: int, *, num_hidden: int = 64) -> None:
        super().__init__()
        if num_features < 1 or num_hidden < 1:
            raise ValueError(f"num_features and num_hidden must be at least 1, got {num_features} and {num_hidden}.")
        self.num_features = num_features
        self.score = nn.Sequential(nn.Linear(num_features, num_hidden), nn.Tanh(), nn.Linear(num_hidden, 1, bias=False))

    def forward(
        self, outputs: Float[Tensor, "batch time features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch features"]:
        """The weights sum to 1 over each sequence."""
        if outputs.shape[-1:] != (self.num_features,):
            raise ValueError(
                f"outputs must have {self.num_features} features in their last axis, got shape {tuple(outputs.shape)}."
            )
        # A weight of 0 does not stop a NaN that stands in the padding: it is taken out before anything reads it.
        outputs = _fill_padding(outputs, lengths, 0.0)
        check_like(outputs, name="outputs", like=next(self.score.parameters()))
        scores = self.score(outputs).squeeze(-1)
        # -inf, not a large negative number: bf16 would let padding leak in.
        scores = scores.masked_fill(~valid_steps(lengths, outputs.shape[1]), -torch.inf)
        return torch.einsum("bt,btf->bf", scores.softmax(-1).to(outputs.dtype), outputs)


def build_pooling(
    kind: PoolingKind, *, num_features: int, bidirectional: bool, num_hidden: int | None = None
) -> nn.Module:
    """The reduction of that name, for outputs `num_features` wide (both directions together).

    Args:
        kind: last, mean, max or attention.
        num_features: width of the outputs.
        bidirectional: whether the outputs are a forward and a backward half; `last` reads them at different steps.
        num_hidden: attention only, hidden units of the scoring network; None for 64.

    Raises:
        ValueError: for an unknown kind, or `num_hidden` with a kind that does not read it.
    """
    if kind not in get_args(PoolingKind):
        raise ValueError(f"pooling must be one of {', '.join(get_args(PoolingKind))}, got {kind!r}.")
    if num_hidden is not None and kind != "attention":
        raise ValueError(
            f"num_hidden={num_hidden} does nothing with pooling {kind!r}: only attention reads it. Remove it."
        )
    if kind == "last":
        return LastPooling(bidirectional=bidirectional)
    if kind == "mean":
        return MeanPooling()
    if kind == "max":
        return MaxPooling()
    return AttentivePooling(num_features, num_hidden=64 if num_hidden is None else num_hidden)


def _check_outputs(outputs: Tensor) -> None:
    if outputs.ndim != 3:
        raise ValueError(f"outputs must have shape (batch, time, features), got {tuple(outputs.shape)}.")
    if not outputs.is_floating_point():
        raise ValueError(f"outputs must be floating point, got {outputs.dtype}.")


def _fill_padding(outputs: Tensor, lengths: Tensor, value: float) -> Tensor:
    _check_outputs(outputs)
    check_lengths(lengths, of=outputs, at_least=1)
    return outputs.masked_fill(~valid_steps(lengths, outputs.shape[1]).unsqueeze(-1), value)
