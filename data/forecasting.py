"""Windows of a panel of series, in batches, for forecasting."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data.batching import Piece
from data.calendar_features import calendar_feature_names, calendar_features, default_season_length
from data.module import LoaderConfig, PlannedDataModule, notify
from data.panel import Panel
from data.panel_reading import PanelFileConfig, read_panel
from data.paths import cache_folder, find_data
from data.splits import SplitByFraction, SplitConfig, split_boundaries
from data.windows import PARTS, WindowIndex, fit_standard_scaling, gather_windows, standardise

Indices = npt.NDArray[np.int64]
Scaling = Literal["none", "standard"]


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


class ForecastingData(PlannedDataModule):
    """A panel of series, split by time, as batches of windows."""

    def __init__(
        self,
        path: str,
        *,
        context: int,
        horizon: int,
        batch_size: int = 256,
        split: SplitConfig = SplitByFraction(),
        file: PanelFileConfig = PanelFileConfig(),
        scaling: Scaling = "standard",
        calendar: bool = True,
        season_length: int | None = None,
        min_context: int | None = None,
        stride: int = 1,
        loader: LoaderConfig = LoaderConfig(),
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        """A panel of series, split by time, as batches of windows.

        Args:
            path: CSV or Parquet file; relative to the working directory, to UNROLL_DATA, or one of the embedded sets.
            context: steps of history the network sees.
            horizon: steps it forecasts.
            batch_size: windows an optimiser step, over all processes and accumulated pieces.
            split: which rows train, validate and test: SplitByRows, SplitByFraction or SplitByDate.
            file: how the file is laid out.
            scaling: standard (each series to mean 0 and deviation 1 over its training part) or none.
            calendar: give the network the position of each step in the day, week, month and year.
            season_length: steps of a season, for seasonal naive and MASE. None: by frequency (24 hours, 7 days ...).
            min_context: fewest steps of history a window may have. None: context.
            stride: steps between the beginnings of two training windows; evaluation always takes every window.
            loader: how batches are brought to the network.
            cache_dir: where prepared files are kept. None: UNROLL_CACHE, or the user's cache folder.
            seed: seed of the order of windows.
        """
        super().__init__(batch_size=batch_size, seed=seed, loader=loader)
        for name, value in (("context", context), ("horizon", horizon), ("stride", stride)):
            if value < 1:
                raise ValueError(f"data.{name} must be at least 1 step, got {value}.")
        if season_length is not None and season_length < 1:
            raise ValueError(f"data.season_length must be at least 1 step, got {season_length}.")
        self.path = path
        self.context = context
        self.horizon = horizon
        self.split = split
        self.file = file
        self.scaling = scaling
        self.calendar = calendar
        self.given_season_length = season_length
        self.min_context = min_context
        self.stride = stride
        self.cache_dir = cache_dir
        self._panel: Panel | None = None
        self._hash: str | None = None
        self._datasets: dict[str, WindowDataset] = {}

    def prepare_data(self) -> None:
        """Read the file once, on the first process, so that the others find it in the cache."""
        self._read()

    def _read(self) -> Panel:
        if self._panel is None:
            cache_dir = self.cache_dir or str(cache_folder())
            self._panel = read_panel(find_data(self.path), self.file, cache_dir=cache_dir, notify=notify)
        return self._panel

    def setup(self, stage: str) -> None:
        """Split the panel, fit what is fitted on the training part, and address the windows of each part."""
        if self._datasets:
            return
        panel = self._read()
        self.season_length = self.given_season_length or default_season_length(panel.frequency)
        boundaries = split_boundaries(panel, self.split)
        self.train_ends = boundaries[:, 1]
        self.mean, self.scale = np.zeros(panel.num_series), np.ones(panel.num_series)
        if self.scaling == "standard":
            self.mean, self.scale = fit_standard_scaling(panel, self.train_ends, notify=notify)
        self.calendar_names = calendar_feature_names(panel.frequency) if self.calendar else []
        scaled = ScaledPanel.of(panel, mean=self.mean, scale=self.scale, calendar=self.calendar_names)
        for position, part in enumerate(PARTS):
            index = WindowIndex(
                boundaries[:, position : position + 2],
                series_ids=panel.series_ids,
                context=self.context,
                horizon=self.horizon,
                stride=self.stride if part == "train" else 1,
                min_context=self.min_context,
                part=part,
            )
            if index.left_out:
                named = ", ".join(index.left_out[:5]) + (" ..." if len(index.left_out) > 5 else "")
                notify(
                    f"{part}: {len(index.left_out)} of {panel.num_series} series left out, too short for a window of "
                    f"{index.min_context} + {self.horizon} steps: {named}"
                )
            self._datasets[part] = WindowDataset(scaled, index, season=None if part == "train" else self.season_length)

    def _fingerprint(self) -> str:
        # Once: checkpoints ask for it, and a large panel takes a while.
        if self._hash is None:
            self._hash = hashlib.sha256(self.panel.values.data).hexdigest()[:16]
        return self._hash

    @property
    def panel(self) -> Panel:
        """The panel, after `setup`."""
        return self._read()

    def dataset(self, part: str) -> WindowDataset:
        """The windows of `train`, `validation` or `test`, after `setup`."""
        return self._datasets[part]

    def preprocessing(self) -> dict[str, Any]:
        """What forecasting new data needs: sizes, calendar, series and their scales, the form of the file."""
        panel = self.panel
        return {
            "context": self.context,
            "horizon": self.horizon,
            "min_context": self.min_context,
            "frequency": panel.frequency,
            "calendar": self.calendar_names,
            "series_ids": panel.series_ids,
            "season_length": self.season_length,
            "scaling": self.scaling,
            "mean": torch.from_numpy(self.mean),
            "scale": torch.from_numpy(self.scale),
            "seasonal_error": torch.from_numpy(seasonal_error(panel, self.train_ends, season=self.season_length)),
            "has_missing": bool(np.isnan(panel.values).any()),
            "file": dataclasses.asdict(self.file),
        }

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share; the content of the file by its fingerprint, wherever it lies now."""
        return {
            "context": self.context,
            "horizon": self.horizon,
            "min_context": self.min_context,
            "stride": self.stride,
            "split": {"class": type(self.split).__name__, **dataclasses.asdict(self.split)},
            "scaling": self.scaling,
            "calendar": self.calendar,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "values of the file": self._fingerprint(),
        }


def seasonal_error(panel: Panel, train_ends: Indices, *, season: int) -> npt.NDArray[np.float64]:
    """Mean absolute seasonal difference of each series' training part, the unit of MASE; NaN where it has no value.

    Source: Hyndman & Koehler, "Another look at measures of forecast accuracy", 2006. A series whose seasonal
    differences are all zero has no such unit and counts in no MASE.
    """
    errors = np.full(panel.num_series, np.nan)
    for i in range(panel.num_series):
        values = panel.series(i)[: train_ends[i]]
        differences = np.abs(values[season:] - values[:-season]) if len(values) > season else np.empty(0)
        differences = differences[~np.isnan(differences)]
        if len(differences) and differences.mean() > 0:
            errors[i] = differences.mean()
    return errors


def newest_windows(
    panel: Panel,
    preprocessing: Mapping[str, Any],
    *,
    scaling: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
    chunk: int = 1024,
) -> list[ForecastBatch]:
    """The last window of each series of a panel, whose forecast begins after the panel ends.

    Args:
        panel: new data of the same frequency.
        preprocessing: of the checkpoint that forecasts.
        scaling: mean and scale of each series; None: `series_scaling`.
        chunk: windows a batch.

    Raises:
        ValueError: for another frequency, or a series with too little history.
    """
    if panel.frequency != preprocessing["frequency"]:
        raise ValueError(
            f"The checkpoint forecasts series of frequency '{preprocessing['frequency']}', but the input's is "
            f"'{panel.frequency}'."
        )
    context, horizon = preprocessing["context"], preprocessing["horizon"]
    needed = preprocessing["min_context"] or context
    short = [name for name, length in zip(panel.series_ids, panel.lengths, strict=True) if length < needed]
    if short:
        raise ValueError(
            f"{len(short)} of {panel.num_series} series are shorter than the {needed} steps of history that the "
            f"checkpoint needs: {', '.join(short[:5])}. Leave them out or give more history."
        )
    mean, scale = series_scaling(panel, preprocessing) if scaling is None else scaling
    known = {name: position for position, name in enumerate(preprocessing["series_ids"])}
    scaled = ScaledPanel.of(panel, mean=mean, scale=scale, calendar=preprocessing["calendar"])
    batches = []
    for start in range(0, panel.num_series, chunk):
        rows = np.arange(start, min(start + chunk, panel.num_series))
        lengths = np.minimum(panel.lengths[rows], context)
        begins = panel.offsets[rows + 1] - lengths
        window = gather_windows(scaled.values, begins, lengths, size=int(lengths.max()))
        steps = np.minimum(begins[:, None] + np.arange(int(lengths.max())), len(scaled.dates) - 1)
        future = np.stack([panel.future_timestamps(int(row), horizon) for row in rows])
        zeros = torch.zeros(len(rows), horizon)
        batches.append(
            ForecastBatch(
                context=torch.from_numpy(window.values),
                observed=torch.from_numpy(window.observed),
                lengths=torch.from_numpy(lengths),
                calendar=torch.from_numpy(scaled.calendar[scaled.dates[steps]]),
                future_calendar=torch.from_numpy(calendar_features(future, preprocessing["calendar"])),
                target=zeros,
                target_observed=zeros.bool(),
                seasonal_naive=torch.from_numpy(
                    scaled.seasonal_naive(
                        rows, panel.lengths[rows], horizon=horizon, season=preprocessing["season_length"]
                    )
                ),
                series=torch.tensor([known.get(panel.series_ids[row], -1) for row in rows]),
                example=torch.from_numpy(rows),
                weight=torch.ones(len(rows)),
            )
        )
    return batches


def series_scaling(
    panel: Panel, preprocessing: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and scale of each series: of its training part, or for a series unseen in training of the data given."""
    mean, scale = np.zeros(panel.num_series), np.ones(panel.num_series)
    if preprocessing["scaling"] == "none":
        return mean, scale
    known = {name: position for position, name in enumerate(preprocessing["series_ids"])}
    unseen = [name for name in panel.series_ids if name not in known]
    if unseen:
        notify(f"{len(unseen)} series unseen in training are scaled by their own history: {unseen[:5]}")
        mean, scale = fit_standard_scaling(panel, panel.lengths, notify=notify)
    for row, name in enumerate(panel.series_ids):
        if name in known:
            mean[row] = float(preprocessing["mean"][known[name]])
            scale[row] = float(preprocessing["scale"][known[name]])
    return mean, scale
