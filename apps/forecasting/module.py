"""The forecasting LightningModule: network, head, loss and metrics joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apps.forecasting.heads import HeadConfig, Point
from apps.forecasting.metrics import forecast_metrics
from apps.forecasting.network import DataShape, Direct, Forecast, ForecastingNetwork, NetworkConfig
from apps.forecasting.stream_network import Stream, StreamNetwork, step_targets
from core.nn.losses import MeanOver, SummedLoss, summed_loss
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.module import ApplicationModule
from core.training.optimisation import Constant, OptimizerConfig, ScheduleConfig
from core.training.watching.workload import Workload
from data.forecasting import ForecastBatch, ForecastingData
from data.series.forecast_streams import StreamBatch

NAIVE = "seasonal_naive"


class SeriesForecast(NamedTuple):
    """A forecast in the units of the data (as scaled by `data.scaling`, or of the file after `in_file_units`)."""

    mean: Float[Tensor, "batch horizon"]
    median: Float[Tensor, "batch horizon"]
    quantiles: Float[Tensor, "batch horizon levels"] | None

    def in_file_units(self, mean: Float[Tensor, "batch"], scale: Float[Tensor, "batch"]) -> SeriesForecast:
        """Undo the scaling of each series."""
        quantiles = self.quantiles
        if quantiles is not None:
            quantiles = quantiles * scale[:, None, None] + mean[:, None, None]
        scale, mean = scale.unsqueeze(1), mean.unsqueeze(1)
        return SeriesForecast(self.mean * scale + mean, self.median * scale + mean, quantiles)


class ForecastingModule(ApplicationModule):
    """Trains a forecasting network and measures it."""

    application: ClassVar[str] = "forecasting"
    unit: ClassVar[str] = "windows"
    free_in_evaluation: ClassVar[tuple[str, ...]] = (
        *("optimizer", "schedule", "seed", "loss_mean", "metrics_in"),
        *("file", "season_length", "seasonal_error", "has_missing"),
    )
    network: ForecastingNetwork | None

    def __init__(
        self,
        *,
        network: NetworkConfig = Direct(),
        head: HeadConfig = Point(),
        loss_mean: MeanOver = "token",
        metrics_in: Literal["file", "scaled"] = "file",
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        """Trains a forecasting network and measures it.

        Args:
            network: Direct, Segment or FeedForwardBaseline; Stream for whole series in chunks (data.stream).
            head: Point or Quantiles.
            loss_mean: token (every forecast step counts alike) or sequence (every window counts alike; notes N4).
            metrics_in: units of the metrics: of the file, or scaled as data.scaling has it (as benchmarks report them).
            optimizer: the optimiser.
            schedule: how the learning rate moves: Constant, Exponential or Cosine.
            seed: seed of initial weights and dropout.
        """
        super().__init__(optimizer=optimizer, schedule=schedule, seed=seed)
        if metrics_in not in ("file", "scaled"):
            raise ValueError(f"model.metrics_in must be file or scaled, got {metrics_in!r}.")
        self.network_config = network
        self.head = head
        self.loss_mean: MeanOver = loss_mean
        self.metrics_in: Literal["file", "scaled"] = metrics_in

    def build_network(self, preprocessing: Mapping[str, Any]) -> ForecastingNetwork:
        """The configured network for data with this preprocessing."""
        return self.network_config.build(DataShape.of(preprocessing), num_outputs=self.head.num_outputs)

    def setup(self, stage: str) -> None:
        """Hold the trainer to the contracts, and ask the data for the training examples that the network reads.

        Raises:
            ValueError: for a trainer setting under which a contract cannot hold, or data that the network cannot read.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, ForecastingData):
            self.choose_examples(data)

    def choose_examples(self, data: ForecastingData) -> None:
        """Train on windows, or on chunks of whole series.

        Raises:
            ValueError: where network and data are not both for the one or both for the other.
        """
        name, over_series = type(self.network_config).__name__, isinstance(self.network_config, Stream)
        if over_series and data.chunks is None:
            raise ValueError(
                f"model.network is {name}, which trains on whole series in chunks, but there are none. Set "
                "data.stream.chunk_size, or choose a network of windows, such as Direct."
            )
        if data.chunks is not None and not over_series:
            raise ValueError(
                f"data.stream.chunk_size cuts whole series in chunks, but model.network is {name}, which reads windows. "
                "Choose Stream, or leave data.stream.chunk_size out."
            )
        data.train_on("streams" if over_series else "windows")

    def of_series(self, name: str, series: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """`mean`, `scale` or `seasonal_error` of the series of each window, in float64 whatever the weights are in."""
        values: Tensor = self.preprocessing[name]
        return values.to(series.device)[series]

    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data."""
        return {
            "network": to_plain(self.network_config),
            "head": to_plain(self.head),
            "loss_mean": self.loss_mean,
            "metrics_in": self.metrics_in,
            **self._optimisation_settings(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""
        return cls(
            network=from_plain(NetworkConfig, settings["network"]),  # type: ignore[type-abstract]
            head=from_plain(HeadConfig, settings["head"]),  # type: ignore[type-abstract]
            loss_mean=settings["loss_mean"],
            metrics_in=settings["metrics_in"],
            **cls._optimisation_from(settings),
        )

    def forward(self, batch: ForecastBatch) -> Forecast:
        """Forecast a batch, in the units of its windows."""
        assert self.network is not None
        forecast: Forecast = self.network(
            batch.context,
            observed=batch.observed,
            lengths=batch.lengths,
            calendar=batch.calendar,
            future_calendar=batch.future_calendar,
            series=batch.series,
        )
        return forecast

    def series_forecast(self, forecast: Forecast) -> SeriesForecast:
        """The forecast in the units of the data."""
        assert self.network is not None
        outputs = self.network.scaling.restore(forecast.outputs, forecast.window)
        quantiles = self.head.sorted(outputs) if self.head.levels else None
        return SeriesForecast(self.head.mean(outputs), self.head.median(outputs), quantiles)

    def _loss(self, batch: ForecastBatch, forecast: Forecast) -> SummedLoss:
        assert self.network is not None
        target = self.network.scaling.scale_target(batch.target, forecast.window)
        losses = self.head.losses(forecast.outputs, target, mask=batch.target_observed)
        return summed_loss(losses, mask=batch.target_observed, mean=self.loss_mean, weight=batch.weight)

    def training_loss(self, batch: ForecastBatch | StreamBatch) -> SummedLoss:
        """Summed loss in the units of each window, and its count; over a chunk, of the steps not yet counted."""
        return self._chunk_loss(batch) if isinstance(batch, StreamBatch) else self._loss(batch, self(batch))

    def _chunk_loss(self, batch: StreamBatch) -> SummedLoss:
        assert isinstance(self.network, StreamNetwork)
        outputs = self.network.forecast_steps(batch, states=self.training_states)
        target = step_targets(batch, horizon=self.network.horizon)
        # Every step forecasts as a window that ends with it would: for the loss it is one.
        values, counted = target.values.flatten(0, 1), target.counted.flatten(0, 1)
        losses = self.head.losses(outputs.flatten(0, 1), values, mask=counted)
        weight = batch.weight.repeat_interleave(outputs.shape[1])
        return summed_loss(losses, mask=counted, mean=self.loss_mean, weight=weight)

    def workload(self, batch: ForecastBatch | StreamBatch) -> Workload:
        """Windows, each step that a chunk counts being the end of one; padding of what comes before the horizon."""
        if isinstance(batch, StreamBatch):
            assert isinstance(self.network, StreamNetwork)
            size, units = batch.values.shape[1] - self.network.horizon, batch.lengths - batch.chunk.context
        else:
            size, units = batch.context.shape[1], torch.ones_like(batch.lengths)
        return Workload.of_lengths(batch.lengths, size=size, weight=batch.weight, units=units)

    def evaluation_values(self, batch: ForecastBatch) -> dict[str, SummedLoss]:
        """Loss and metrics of a piece, and those of the seasonal naive forecast beside them."""
        forecast = self(batch)
        ours = self.series_forecast(forecast)
        naive = SeriesForecast(batch.seasonal_naive, batch.seasonal_naive, None)
        target, seasonal_error = batch.target, self.of_series("seasonal_error", batch.series)
        mean, scale = self.of_series("mean", batch.series), self.of_series("scale", batch.series)
        if self.metrics_in == "file":
            ours, naive = ours.in_file_units(mean, scale), naive.in_file_units(mean, scale)
            target = target * scale.unsqueeze(1) + mean.unsqueeze(1)
        else:
            seasonal_error = seasonal_error / scale
        counted = batch.target_observed & (batch.weight > 0).unsqueeze(1)
        values = {"loss": self._loss(batch, forecast)}
        for prefix, series in (("", ours), (f"{NAIVE}/", naive)):
            metrics = forecast_metrics(
                series.mean,
                median=series.median,
                quantiles=series.quantiles,
                levels=self.head.levels,
                target=target,
                counted=counted,
                seasonal_error=seasonal_error,
            )
            values.update({f"{prefix}{name}": value for name, value in metrics.items()})
        return values

    def predict_step(self, batch: ForecastBatch, batch_idx: int = 0) -> SeriesForecast:
        """The forecast of a batch in the units of the data, which `in_file_units` turns into those of the file.

        Raises:
            ValueError: from a network with series embeddings, for a series that training did not know.
        """
        assert self.network is not None
        unseen = batch.series < 0
        if bool(unseen.any()) and self.network_config.knows_series:
            raise ValueError(
                f"{int(unseen.sum())} series of the input were not in the training data, and this checkpoint embeds each "
                "series. Train with network.series_embedding (or series_size) off to forecast new series."
            )
        return self.series_forecast(self(batch))


class BaselineModule(ForecastingModule):
    """A network of windows beside any run: where the run trains on whole series, the windows are those of the same."""

    def choose_examples(self, data: ForecastingData) -> None:
        """Train on windows."""
        data.train_on("windows")


@torch.no_grad()
def forecast_batches(module: ForecastingModule, batches: list[ForecastBatch]) -> SeriesForecast:
    """Forecast batches one after the other where the module is, in the units that the batches have, joined again on the CPU."""
    parts = [module.predict_step(module.transfer_batch_to_device(batch, module.device, 0)) for batch in batches]
    quantiles = [part.quantiles.cpu() for part in parts if part.quantiles is not None]
    return SeriesForecast(
        torch.cat([part.mean.cpu() for part in parts]),
        torch.cat([part.median.cpu() for part in parts]),
        torch.cat(quantiles) if quantiles else None,
    )
