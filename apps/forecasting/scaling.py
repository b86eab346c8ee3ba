"""Bringing each window to a common scale, and its forecast back."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.nn.lengths import last_valid_step, valid_steps

WindowScale = Literal["none", "mean_abs", "standard", "last", "instance_norm"]

# Relative to the window's largest value: below it a spread is rounding, and dividing by it would blow rounding up to a
# signal. An absolute bound would leave series of a small unit unscaled.
SMALLEST_SPREAD = 1e-5


class ScaledWindow(NamedTuple):
    """A window in its own units: value = (original - location) / scale."""

    values: Float[Tensor, "batch time"]
    location: Float[Tensor, "batch"]
    scale: Float[Tensor, "batch"]


class WindowScaling(nn.Module):
    """Scale each window by what is observed in it.

    - `none`: as it is.
    - `mean_abs`: divided by the mean absolute value (Salinas et al., "DeepAR", 2020, section 3.3).
    - `standard`: minus the mean, divided by the standard deviation.
    - `last`: minus the last observed value (Zeng et al., "Are Transformers Effective for Time Series Forecasting?",
      AAAI 2023, NLinear).
    - `instance_norm`: as `standard`, followed by a learned affine map that the forecast undoes (Kim et al.,
      "Reversible Instance Normalization", ICLR 2022).

    A window without spread (constant, or with nothing observed) gets scale 1.
    """

    def __init__(self, kind: WindowScale) -> None:
        super().__init__()
        if kind not in get_args(WindowScale):
            raise ValueError(f"network.window_scaling must be one of {', '.join(get_args(WindowScale))}, got {kind!r}.")
        self.kind = kind
        if kind == "instance_norm":
            self.log_gain = nn.Parameter(torch.zeros(()))
            self.shift = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        context: Float[Tensor, "batch time"],
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
    ) -> ScaledWindow:
        """Scale windows; what is not observed comes out as 0."""
        present = observed & valid_steps(lengths, context.shape[1])
        values = context.masked_fill(~present, 0.0)
        location, scale = self._statistics(values, present)
        scaled = (values - location.unsqueeze(1)) / scale.unsqueeze(1)
        return ScaledWindow(self._affine(scaled).masked_fill(~present, 0.0), location, scale)

    def _statistics(
        self, values: Float[Tensor, "batch time"], present: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        count = present.sum(dim=1).clamp(min=1).to(values.dtype)
        zero, one = torch.zeros_like(count), torch.ones_like(count)
        if self.kind == "none":
            return zero, one
        if self.kind == "last":
            steps = torch.arange(1, values.shape[1] + 1, device=values.device)
            last_observed = torch.where(present, steps, 0).amax(dim=1)
            return last_valid_step(values, last_observed), one
        if self.kind == "mean_abs":
            mean = values.abs().sum(dim=1) / count
            return zero, torch.where(mean > 0, mean, one)
        mean = values.sum(dim=1) / count
        centred = (values - mean.unsqueeze(1)).masked_fill(~present, 0.0)
        variance = centred.square().sum(dim=1) / count
        has_spread = variance > (SMALLEST_SPREAD * values.abs().amax(dim=1)).square()
        # Chosen before the root, whose gradient at 0 is infinite.
        return mean, torch.where(has_spread, variance, one).sqrt()

    def _affine(self, values: Tensor) -> Tensor:
        return values * self.log_gain.exp() + self.shift if self.kind == "instance_norm" else values

    def scale_target(
        self, target: Float[Tensor, "batch horizon"], window: ScaledWindow
    ) -> Float[Tensor, "batch horizon"]:
        """The target in the units of the window, in which the loss is measured."""
        return (target - window.location.unsqueeze(1)) / window.scale.unsqueeze(1)

    def undo_affine(self, outputs: Float[Tensor, "batch horizon outputs"]) -> Float[Tensor, "batch horizon outputs"]:
        """The network's outputs in the units of the window."""
        return (outputs - self.shift) * (-self.log_gain).exp() if self.kind == "instance_norm" else outputs

    def restore(
        self, outputs: Float[Tensor, "batch horizon outputs"], window: ScaledWindow
    ) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs in the units of the window, back in the units of the series."""
        return outputs * window.scale[:, None, None] + window.location[:, None, None]
