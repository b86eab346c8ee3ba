"""From one vector to outputs of every step of the horizon."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StepDecoder(nn.Module):
    """All horizons at once from one vector; each step also sees its own calendar (Das et al., "TiDE", 2023, section 3.2).

    Without calendar features it is one linear map.

    Args:
        num_features: size of the vector.
        horizon: steps to forecast.
        num_calendar: calendar features of each of them.
        num_outputs: outputs of each of them.
        step_size: size of the vector that each step gets of the whole.
    """

    def __init__(
        self, num_features: int, *, horizon: int, num_calendar: int, num_outputs: int, step_size: int = 16
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.num_calendar = num_calendar
        if num_calendar:
            self.unfold = nn.Linear(num_features, horizon * step_size)
            self.step = nn.Sequential(
                nn.Linear(step_size + num_calendar, 2 * step_size),
                nn.ReLU(),
                nn.Linear(2 * step_size, num_outputs),
            )
        else:
            self.unfold = nn.Linear(num_features, horizon * num_outputs)

    def forward(
        self, features: Float[Tensor, "*batch features"], future: Float[Tensor, "*batch horizon calendar"]
    ) -> Float[Tensor, "*batch horizon outputs"]:
        """Outputs of every step of the horizon."""
        steps: Tensor = self.unfold(features).unflatten(-1, (self.horizon, -1))
        outputs: Tensor = self.step(torch.cat([steps, future], dim=-1)) if self.num_calendar else steps
        return outputs
