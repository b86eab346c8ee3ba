"""What a decoder reads in training: the true y(t-1), its own prediction, or now the one and now the other (notes N7).

A schedule gives the probability of the true value at an optimiser step; decoders take that number. Every element of
every step is drawn for itself.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TeacherForcingConfig(ABC):
    """How often a decoder reads the true value while it is trained."""

    @abstractmethod
    def true_probability(self, step: int) -> float:
        """Probability of the true value at optimiser step `step`, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class AlwaysTrue(TeacherForcingConfig):
    """Teacher forcing: always the true value."""

    def true_probability(self, step: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class NeverTrue(TeacherForcingConfig):
    """Output recurrence, free running: always the prediction, as at inference."""

    def true_probability(self, step: int) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class ScheduledSamplingLinear(TeacherForcingConfig):
    """max(floor, start - slope i) at step i.

    Source: Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks", NeurIPS 2015,
    section 2.4.
    """

    slope: float
    """What the probability loses an optimiser step."""
    start: float = 1.0
    """Probability at step 0, in (0, 1]."""
    floor: float = 0.0
    """Least probability, below `start`."""

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"slope must be positive, got {self.slope}: without a decay it is a constant mix.")
        if not 0.0 <= self.floor < self.start <= 1.0:
            raise ValueError(f"0 <= floor < start <= 1 must hold, got floor={self.floor} and start={self.start}.")

    def true_probability(self, step: int) -> float:
        """See the class."""
        return max(self.floor, self.start - self.slope * step)


@dataclass(frozen=True, kw_only=True)
class ScheduledSamplingExponential(TeacherForcingConfig):
    """base^i at step i (Bengio et al. 2015, section 2.4)."""

    base: float
    """Factor an optimiser step, in (0, 1); 0.9999 halves the probability in 6,931 steps."""

    def __post_init__(self) -> None:
        if not 0.0 < self.base < 1.0:
            raise ValueError(f"base must be in (0, 1), got {self.base}.")

    def true_probability(self, step: int) -> float:
        """See the class."""
        return float(self.base**step)


@dataclass(frozen=True, kw_only=True)
class ScheduledSamplingInverseSigmoid(TeacherForcingConfig):
    """k / (k + exp(i / k)) at step i (Bengio et al. 2015, section 2.4)."""

    k: float
    """Speed, at least 1: the probability is a half after k ln k steps."""

    def __post_init__(self) -> None:
        if not self.k >= 1:
            raise ValueError(f"k must be at least 1, got {self.k}.")

    def true_probability(self, step: int) -> float:
        """See the class."""
        # Written over exp(-x), which may become 0 but never overflows.
        small = math.exp(-step / self.k)
        return self.k * small / (self.k * small + 1.0)


def check_probability(true_probability: float) -> None:
    """Refuse what is no probability.

    Raises:
        ValueError: saying what was got.
    """
    if not 0.0 <= true_probability <= 1.0:
        raise ValueError(f"true_probability must be in [0, 1], got {true_probability}.")


def draw_true_steps(
    true_probability: float, *, num_rows: int, num_steps: int, device: torch.device
) -> Bool[Tensor, "rows time"]:
    """True where the true value is read, from PyTorch's global generator; the first step has no prediction before it."""
    if true_probability == 0.0:  # nothing to draw: free running leaves the generator alone
        chosen = torch.zeros(num_rows, num_steps, dtype=torch.bool, device=device)
    else:
        chosen = torch.rand(num_rows, num_steps, device=device) < true_probability
    chosen[:, 0] = True
    return chosen
