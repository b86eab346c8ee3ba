"""Several decoders as one, by the mean of their probabilities."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.nn.step_decoder import DecoderState, StepDecoder, StepOutput


class EnsembleState(NamedTuple):
    """The states of all members."""

    members: tuple[DecoderState, ...]

    def select(self, rows: Int[Tensor, "selected"], *, examples: Int[Tensor, "kept"] | None = None) -> "EnsembleState":
        """Each member's state of the hypotheses at `rows`."""
        return EnsembleState(tuple(member.select(rows, examples=examples) for member in self.members))


class Ensemble:
    """A step decoder whose probabilities are the mean of its members', as is its attention where all have one.

    The members share the vocabulary; each carries a state of its own. Source: Sutskever et al., NeurIPS 2014.
    """

    def __init__(self, decoders: Sequence[StepDecoder[Any]]) -> None:
        if not decoders:
            raise ValueError("an ensemble needs at least one decoder, got none.")
        self.decoders = tuple(decoders)

    def join(self, states: Sequence[DecoderState]) -> EnsembleState:
        """The members' states, in the order of the decoders, as the one that search takes.

        Raises:
            ValueError: if there are more or fewer states than decoders.
        """
        self._check_number(states)
        return EnsembleState(tuple(states))

    def step(self, tokens: Int[Tensor, "rows"], state: EnsembleState) -> StepOutput[EnsembleState]:
        """Read one token a hypothesis; the logits are the logarithm of the mean probability.

        Raises:
            ValueError: if the state is one of more or fewer decoders, or the members' vocabularies or the source steps
                they attend over differ.
        """
        self._check_number(state.members)
        outputs = [decoder.step(tokens, member) for decoder, member in zip(self.decoders, state.members, strict=True)]
        _check_same([output.logits for output in outputs], what="logits (rows, vocabulary)")
        parts = []
        for output in outputs:
            dtype = torch.promote_types(output.logits.dtype, torch.float32)
            parts.append(torch.log_softmax(output.logits, dim=-1, dtype=dtype))
        log_probabilities = torch.logsumexp(torch.stack(parts), dim=0) - math.log(len(parts))
        following = EnsembleState(tuple(output.state for output in outputs))
        return StepOutput(log_probabilities, following, _mean_attention([output.attention for output in outputs]))

    def _check_number(self, states: Sequence[DecoderState]) -> None:
        if len(states) != len(self.decoders):
            raise ValueError(f"an ensemble of {len(self.decoders)} decoders takes as many states, got {len(states)}.")


def _mean_attention(attentions: list[Tensor | None]) -> Float[Tensor, "rows source"] | None:
    present = [attention for attention in attentions if attention is not None]
    if len(present) < len(attentions):
        return None
    _check_same(present, what="attention (rows, source)")
    return torch.stack(present).mean(0)


def _check_same(tensors: list[Tensor], *, what: str) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the members of an ensemble must agree in the shape of their {what}, got {shapes}: they must share the "
            "vocabulary and read the same source."
        )
