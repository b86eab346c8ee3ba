"""What a decoder must offer so that search can drive it one token at a time (`core.nn.search`)."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

Same = TypeVar("Same", bound="DecoderState")


@runtime_checkable
class DecoderState(Protocol):
    """What a decoder carries from one token to the next, for `rows` hypotheses.

    The hypotheses of one example stand together, and every example has as many as every other; so what belongs to an
    example (an encoded source) can be kept once, whatever the number of its hypotheses.
    """

    def select(self: Same, rows: Int[Tensor, "selected"], *, examples: Int[Tensor, "kept"] | None = None) -> Same:
        """The state of the hypotheses at `rows`, in that order, repeated where a row is named twice.

        Args:
            rows: int64, rows of the present state; each stays within its own example.
            examples: int64, the examples that `rows` belong to, each once and ascending; None for all of them.
        """
        ...


State = TypeVar("State", bound=DecoderState)


@dataclass(frozen=True)
class StepOutput(Generic[State]):
    """What one step of a decoder gives."""

    logits: Float[Tensor, "rows vocabulary"]
    """Unnormalised log-probabilities of the next token."""
    state: State
    """What the next step takes."""
    attention: Float[Tensor, "rows source"] | None
    """Weights over the source steps of the row's example; None for a decoder without attention."""


@runtime_checkable
class StepDecoder(Protocol[State]):
    """A decoder that search can drive."""

    def step(self, tokens: Int[Tensor, "rows"], state: State) -> StepOutput[State]:
        """Read one token a hypothesis and score every candidate for the next."""
        ...
