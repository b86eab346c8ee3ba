"""What is forecast of each step: a value or quantiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.nn.losses import absolute_error, huber_error, pinball_error, squared_error

PointLoss = Literal["mse", "mae", "huber"]


@dataclass(frozen=True)
class HeadConfig(ABC):
    """What is forecast of each step, and the loss that teaches it."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Outputs a step."""

    @property
    def levels(self) -> Sequence[float]:
        """Quantile levels among the outputs; none for a point forecast."""
        return ()

    @abstractmethod
    def losses(
        self,
        outputs: Float[Tensor, "batch horizon outputs"],
        target: Float[Tensor, "batch horizon"],
        *,
        mask: Bool[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """Loss of each step, 0 where not `mask`."""

    def sorted(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs fit to be shown."""
        return outputs

    @abstractmethod
    def mean(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """The forecast that squared error is measured with."""

    @abstractmethod
    def median(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """The forecast that absolute error is measured with."""


@dataclass(frozen=True)
class Point(HeadConfig):
    """One value a step."""

    loss: PointLoss = "mse"
    """mse aims at the mean, mae at the median, huber between the two."""
    delta: float | None = None
    """For huber: the error, in units of the scaled window, from which it grows linearly. None: 1."""

    def __post_init__(self) -> None:
        if self.loss not in get_args(PointLoss):
            raise ValueError(f"head.loss must be one of {', '.join(get_args(PointLoss))}, got {self.loss!r}.")
        if self.delta is not None and self.loss != "huber":
            raise ValueError(f"head.delta belongs to the huber loss; with '{self.loss}' it does nothing.")
        if self.delta is not None and self.delta <= 0:
            raise ValueError(f"head.delta must be positive, got {self.delta}.")

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    def losses(
        self,
        outputs: Float[Tensor, "batch horizon outputs"],
        target: Float[Tensor, "batch horizon"],
        *,
        mask: Bool[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """Squared, absolute or Huber error of each step."""
        forecast = outputs.squeeze(-1)
        if self.loss == "mse":
            return squared_error(forecast, target, mask=mask)
        if self.loss == "mae":
            return absolute_error(forecast, target, mask=mask)
        return huber_error(forecast, target, mask=mask, delta=1.0 if self.delta is None else self.delta)

    def mean(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """The value."""
        return outputs.squeeze(-1)

    def median(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """The value."""
        return outputs.squeeze(-1)


@dataclass(frozen=True)
class Quantiles(HeadConfig):
    """Several quantiles a step, by the pinball loss (Koenker & Bassett, "Regression Quantiles", 1978).

    Shown quantiles are sorted: rearrangement never makes them worse (Chernozhukov, Fernandez-Val & Galichon,
    "Quantile and Probability Curves Without Crossing", 2010).
    """

    quantiles: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    """Levels, ascending, each above 0 and below 1, 0.5 among them."""

    def __post_init__(self) -> None:
        levels = self.quantiles
        if any(not 0 < level < 1 for level in levels) or sorted(set(levels)) != list(levels):
            raise ValueError(f"head.quantiles must ascend and lie between 0 and 1, got {levels}.")
        if 0.5 not in levels:
            raise ValueError(f"head.quantiles must hold 0.5, the median that absolute errors need; got {levels}.")

    @property
    def num_outputs(self) -> int:
        """One a level."""
        return len(self.quantiles)

    @property
    def levels(self) -> Sequence[float]:
        """The levels."""
        return self.quantiles

    def losses(
        self,
        outputs: Float[Tensor, "batch horizon outputs"],
        target: Float[Tensor, "batch horizon"],
        *,
        mask: Bool[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """Mean pinball loss over the levels, of each step, doubled so that the median's share is the absolute error."""
        return 2 * pinball_error(outputs, target, mask=mask, levels=self.quantiles)

    def sorted(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon outputs"]:
        """Quantiles that do not cross."""
        return outputs.sort(dim=-1).values

    def mean(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """Integral of the quantile function, linear between the levels and flat beyond them.

        Flat tails make it a little too close to the median; a forecast of the mean proper needs a `Point` head.
        """
        shown = self.sorted(outputs)
        levels = torch.tensor([0.0, *self.quantiles, 1.0], dtype=outputs.dtype, device=outputs.device)
        padded = torch.cat([shown[..., :1], shown, shown[..., -1:]], dim=-1)
        return torch.trapezoid(padded, levels, dim=-1)

    def median(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon"]:
        """The quantile 0.5."""
        return self.sorted(outputs)[..., list(self.quantiles).index(0.5)]
