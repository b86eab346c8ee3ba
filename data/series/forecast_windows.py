"""Windows of a panel with what follows them, many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data.batching import Indices, Piece
from data.panels.panel import Panel
from data.series.calendar_features import calendar_features
from data.series.windows import WindowIndex, gather_windows, standardise


class ForecastBatch(NamedTuple):
    """Windows with what follows them. Values are in the units of `data.scaling`."""

    context: Float[Tensor, "batch time"]
    """Valid steps first, 0 where missing or padding."""
    observed: Bool[Tensor, "batch time"]
    """True where the value is known."""
    lengths: Int[Tensor, "batch"]
    """Valid steps of each window."""
    calendar: Float[Tensor, "batch time features"]
    future_calendar: Float[Tensor, "batch horizon features"]
    target: Float[Tensor, "batch horizon"]
    """0 where missing."""
    target_observed: Bool[Tensor, "batch horizon"]
    seasonal_naive: Float[Tensor, "batch naive_horizon"]
    """The value one season before, from the whole past of the series; the baseline beside every evaluation. Without
    columns in training, where nobody asks."""
    series: Int[Tensor, "batch"]
    example: Int[Tensor, "batch"]
    """Number of the window in its part."""
    weight: Float[Tensor, "batch"]
    """1, or 0 for a filler example that no loss and no metric counts."""

    def in_dtype(self, dtype: torch.dtype) -> ForecastBatch:
        """The same batch with its values in another precision: that of the weights that shall read it."""
        return ForecastBatch(*[part.to(dtype) if part.is_floating_point() else part for part in self])


@dataclass(frozen=True)
class ScaledPanel:
    """A panel with its values scaled and its calendar at hand: what windows are cut from."""

    panel: Panel
    values: npt.NDArray[np.float32]
    last_known: npt.NDArray[np.integer[Any]]
    """For each row, the row of the last known value up to it, or -1 where the series has none yet."""
    calendar: npt.NDArray[np.float32]
    """Calendar features of each different date."""
    dates: npt.NDArray[np.integer[Any]]
    """For each row, its date's position in `calendar`."""

    @classmethod
    def of(cls, panel: Panel, *, mean: npt.NDArray[Any], scale: npt.NDArray[Any], calendar: list[str]) -> ScaledPanel:
        """Scale a panel and prepare its calendar."""
        values = standardise(panel, mean, scale)
        rows = np.arange(len(values), dtype=np.int64)
        known = np.where(np.isnan(values), -1, rows)
        last_known = np.maximum.accumulate(known)
        last_known[last_known < np.repeat(panel.offsets[:-1], panel.lengths)] = -1
        different, dates = np.unique(panel.timestamps, return_inverse=True)
        narrow = np.int32 if len(values) < np.iinfo(np.int32).max else np.int64  # large panels feel the difference
        features = calendar_features(different, calendar)
        return cls(panel, values, last_known.astype(narrow), features, dates.astype(narrow))

    def seasonal_naive(
        self, series: Indices, origins: Indices, *, horizon: int, season: int
    ) -> npt.NDArray[np.float32]:
        """The value a season before each step to forecast, taking the last whole season before the origin.

        Where it is missing, or lies before the series begins, the last value known by then, or 0 without any.
        """
        steps = np.arange(horizon)
        rows = origins[:, None] + steps - season * (steps // season + 1)
        rows = np.where(rows < 0, origins[:, None] - 1, rows)
        known = self.last_known[self.panel.offsets[series][:, None] + rows]
        return np.where(known >= 0, self.values[known], np.float32(0)).astype(np.float32)


class WindowDataset:
    """The windows of one part as a `PlannedDataset`: each batch is a few array operations.

    Args:
        scaled: the panel.
        index: where the windows lie.
        season: steps of a season, for the seasonal naive forecast; None leaves it out.
    """

    def __init__(self, scaled: ScaledPanel, index: WindowIndex, *, season: int | None) -> None:
        self.scaled = scaled
        self.index = index
        self.season = season

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> None:
        """None: windows are (nearly) all alike, and mixing them well matters more than a little padding."""
        return

    def locate(self, indices: Indices) -> tuple[Indices, Indices]:
        """Series of each window and the row in it where the forecast begins."""
        return self.index.locate(indices)

    def batch(self, piece: Piece) -> ForecastBatch:
        """The windows of a piece."""
        scaled, horizon = self.scaled, self.index.horizon
        series, origins = self.index.locate(piece.indices)
        lengths = self.index.context_lengths(origins)
        size = int(lengths.max())
        begins = scaled.panel.offsets[series] + origins
        context = gather_windows(scaled.values, begins - lengths, lengths, size=size)
        target = gather_windows(scaled.values, begins, np.full_like(lengths, horizon), size=horizon)
        steps = np.minimum((begins - lengths)[:, None] + np.arange(size), len(scaled.dates) - 1)
        naive = np.empty((len(series), 0), np.float32)
        if self.season is not None:
            naive = scaled.seasonal_naive(series, origins, horizon=horizon, season=self.season)
        return ForecastBatch(
            context=torch.from_numpy(context.values),
            observed=torch.from_numpy(context.observed),
            lengths=torch.from_numpy(lengths),
            calendar=torch.from_numpy(scaled.calendar[scaled.dates[steps]]),
            future_calendar=torch.from_numpy(scaled.calendar[scaled.dates[begins[:, None] + np.arange(horizon)]]),
            target=torch.from_numpy(target.values),
            target_observed=torch.from_numpy(target.observed),
            seasonal_naive=torch.from_numpy(naive),
            series=torch.from_numpy(series.astype(np.int64)),
            example=torch.from_numpy(piece.indices.astype(np.int64)),
            weight=torch.full((len(piece.indices),), piece.weight),
        )
