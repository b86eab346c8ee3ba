"""Metrics as sums and counts: exact over batches, processes and interruptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from core.nn.losses import SummedLoss

Reduce = Callable[[Tensor], Tensor]


class RunningSums:
    """Named sums with their counts, kept in float64 on the CPU or the device of the first value.

    The mean of means is what goes wrong when batches differ in size; here a value is always total sum / total count.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, SummedLoss]) -> None:
        """Add the sums and counts of one batch."""
        for name, value in values.items():
            pair = torch.stack([value.sum.detach().double(), value.count.detach().double()])
            self._totals[name] = self._totals[name].to(pair.device) + pair if name in self._totals else pair

    def reset(self) -> None:
        """Forget everything."""
        self._totals = {}

    def means(self, reduce: Reduce) -> dict[str, float]:
        """Sum / count of every name over all processes; `reduce` sums a tensor over them. NaN where nothing counted."""
        if not self._totals:
            return {}
        names = sorted(self._totals)
        totals = reduce(torch.stack([self._totals[name] for name in names])).cpu()
        return {name: float(total[0] / total[1]) for name, total in zip(names, totals, strict=True)}

    def state_dict(self) -> dict[str, Tensor]:
        """The sums and counts, to be stored in a checkpoint."""
        return {name: total.cpu() for name, total in self._totals.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up stored sums and counts again."""
        self._totals = dict(state)
