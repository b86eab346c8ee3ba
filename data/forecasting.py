"""A panel of series, split by time, in batches for forecasting: windows, or whole series in chunks."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from data.batching import BatchPlan, Indices
from data.module import LoaderConfig, PlannedDataModule, notify
from data.panels.panel import Panel
from data.panels.reading import PanelFileConfig, read_panel
from data.paths import cache_folder, find_data
from data.series.calendar_features import calendar_feature_names, default_season_length
from data.series.forecast_streams import StreamConfig, StreamDataset
from data.series.forecast_windows import ForecastBatch, ScaledPanel, WindowDataset
from data.series.newest_windows import newest_windows, series_scaling
from data.series.windows import PARTS, WindowIndex, fit_standard_scaling
from data.splits import SplitByFraction, SplitConfig, split_boundaries
from data.streams import StreamPlan

__all__ = [
    "ForecastBatch",
    "ForecastingData",
    "ScaledPanel",
    "WindowDataset",
    "newest_windows",
    "seasonal_error",
    "series_scaling",
]

Scaling = Literal["none", "standard"]
ON_WINDOWS = StreamConfig()


class ForecastingData(PlannedDataModule):
    """A panel of series, split by time, as batches of windows or, for training, of chunks of whole series."""

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
        stream: StreamConfig = ON_WINDOWS,
        loader: LoaderConfig = LoaderConfig(),
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        """A panel of series, split by time, as batches of windows or, for training, of chunks of whole series.

        Args:
            path: CSV or Parquet file; relative to the working directory, to UNROLL_DATA, or one of the embedded sets.
            context: steps of history the network sees.
            horizon: steps it forecasts.
            batch_size: windows (with stream: series) an optimiser step, over all processes and accumulated pieces.
            split: which rows train, validate and test: SplitByRows, SplitByFraction or SplitByDate.
            file: how the file is laid out.
            scaling: standard (each series to mean 0 and deviation 1 over its training part) or none.
            calendar: give the network the position of each step in the day, week, month and year.
            season_length: steps of a season, for seasonal naive and MASE. None: by frequency (24 hours, 7 days ...).
            min_context: fewest steps of history a window may have. None: context.
            stride: steps between the beginnings of two training windows; evaluation always takes every window.
            stream: train on whole series in chunks, the state carried on, with the network Stream.
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
        if stream.chunk_size is not None and stride != 1:
            raise ValueError(
                f"data.stride is {stride}, but with data.stream.chunk_size every step of a series is trained on: it would "
                "do nothing. Leave data.stride out; how far chunks move on is data.stream.shift."
            )
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
        self.chunks = stream.chunks
        self._train_on_windows = self.chunks is None
        self.cache_dir = cache_dir
        self._panel: Panel | None = None
        self._hash: str | None = None
        self._datasets: dict[str, WindowDataset] = {}
        self._streams: StreamDataset | None = None

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
            if part != "train" or self.chunks is None:
                self._say_left_out(part, index)
            self._datasets[part] = WindowDataset(scaled, index, season=None if part == "train" else self.season_length)
        if self.chunks is not None:
            self._streams = StreamDataset(scaled, self.train_ends, horizon=self.horizon, config=self.chunks)
            self._say_left_out("train", self._streams)

    def _say_left_out(self, part: str, examples: WindowIndex | StreamDataset) -> None:
        names = examples.left_out
        if names:
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            of_what = f"a window of {examples.min_context}" if isinstance(examples, WindowIndex) else "a step"
            notify(
                f"{part}: {len(names)} of {self.panel.num_series} series left out, too short for {of_what} + "
                f"{self.horizon} steps: {some}"
            )

    def train_on(self, examples: Literal["windows", "streams"]) -> None:
        """Choose the training examples before the loaders are made.

        They are what `data.stream` has them to be, unless a network of windows is trained beside a run over whole series.
        """
        assert examples == "windows" or self.chunks is not None
        self._train_on_windows = examples == "windows"
        if examples == "windows" and self.chunks is not None:
            self._say_left_out("train", self.windows("train").index)

    def _fingerprint(self) -> str:
        # Once: checkpoints ask for it, and a large panel takes a while.
        if self._hash is None:
            self._hash = hashlib.sha256(self.panel.values.data).hexdigest()[:16]
        return self._hash

    @property
    def panel(self) -> Panel:
        """The panel, after `setup`."""
        return self._read()

    def dataset(self, part: str) -> WindowDataset | StreamDataset:
        """The examples of `train`, `validation` or `test`, after `setup`."""
        if part == "train" and not self._train_on_windows:
            assert self._streams is not None
            return self._streams
        return self.windows(part)

    def windows(self, part: str) -> WindowDataset:
        """The windows of `train`, `validation` or `test`, after `setup`."""
        return self._datasets[part]

    def plan(self, part: str) -> BatchPlan:
        """The batch plan of a part; chunks of a series come one after the other."""
        dataset = self.dataset(part)
        if isinstance(dataset, WindowDataset):
            return super().plan(part)
        assert self.batch_size is not None
        return StreamPlan(dataset.chunks, batch_size=self.batch_size, shuffle=True, seed=self.seed)

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
            "stream": None if self.chunks is None else dataclasses.asdict(self.chunks),
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
