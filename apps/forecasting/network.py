"""Forecasting networks: a window in, all steps of the horizon out.

Every network takes the same arguments and gives `(batch, horizon, outputs)` in the units of its scaled window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from apps.forecasting.scaling import ScaledWindow, WindowScale, WindowScaling
from apps.forecasting.step_decoder import StepDecoder
from core.nn.cells import CellWeights, gru_update
from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.pooling import build_pooling
from core.nn.recurrent import Recurrent, RecurrentConfig


class DataShape(NamedTuple):
    """What a network must know of the data.

    Attributes:
        context: steps of history a window has at most.
        horizon: steps to forecast.
        num_calendar: calendar features a step.
        num_series: series in training; a network with series embeddings knows these and no others.
        has_missing: whether the training data has missing values, of which the network is then told.
    """

    context: int
    horizon: int
    num_calendar: int
    num_series: int
    has_missing: bool

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> DataShape:
        """Read off the preprocessing that a DataModule or a checkpoint gives."""
        return cls(
            context=preprocessing["context"],
            horizon=preprocessing["horizon"],
            num_calendar=len(preprocessing["calendar"]),
            num_series=len(preprocessing["series_ids"]),
            has_missing=preprocessing["has_missing"],
        )


class Forecast(NamedTuple):
    """A forecast in the units of its window, and the window that leads back to the units of the series."""

    outputs: Float[Tensor, "batch horizon outputs"]
    window: ScaledWindow


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """A forecasting network."""

    window_scaling: WindowScale | None = None
    """How each window is scaled: none, mean_abs, standard, last or instance_norm. None: as the network has it."""
    own_scaling: ClassVar[WindowScale] = "standard"

    @property
    def scaling(self) -> WindowScale:
        """How each window is scaled."""
        # No default but None: a command line that goes from one network to another keeps what the first one had.
        return self.own_scaling if self.window_scaling is None else self.window_scaling

    @property
    def knows_series(self) -> bool:
        """Whether the network tells the series of its training apart, and so can forecast no other."""
        return False

    @abstractmethod
    def build(self, shape: DataShape, *, num_outputs: int) -> ForecastingNetwork:
        """The network for data of this shape with so many outputs a step."""


class ForecastingNetwork(nn.Module, ABC):
    """Scales the window, forecasts in its units."""

    def __init__(self, *, window_scaling: WindowScale) -> None:
        super().__init__()
        self.scaling = WindowScaling(window_scaling)

    def forward(
        self,
        context: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        calendar: Float[Tensor, "batch time features"],
        future_calendar: Float[Tensor, "batch horizon features"],
        series: Int[Tensor, "batch"],
    ) -> Forecast:
        """Forecast the steps after each window.

        Args:
            context: values, valid steps first.
            observed: whether a value is known.
            lengths: valid steps of each window.
            calendar: calendar features of the window's steps.
            future_calendar: calendar features of the steps to forecast, which are known in advance.
            series: position of the window's series among those of the training data.
        """
        window = self.scaling(context, observed, lengths)
        outputs = self.forecast(
            window.values, observed=observed, lengths=lengths, calendar=calendar, future=future_calendar, series=series
        )
        return Forecast(self.scaling.undo_affine(outputs), window)

    @abstractmethod
    def forecast(
        self,
        values: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        calendar: Float[Tensor, "batch time features"],
        future: Float[Tensor, "batch horizon features"],
        series: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs from scaled windows; unobserved values stand as 0."""


# Direct ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Direct(NetworkConfig):
    """Many-to-one, then all horizons at once: a recurrent layer over the window, reduced to one vector."""

    recurrent: RecurrentConfig = field(default_factory=lambda: RecurrentConfig(kind="lstm", hidden_size=64))
    """The recurrent layers."""
    pooling: Literal["last", "mean", "max", "attention"] = "last"
    """How the outputs over time become one vector (notes N5)."""
    dropout: float = 0.0
    """Dropout on that vector."""
    series_size: int = 0
    """Size of a learned embedding of each series; 0: none, and unseen series can be forecast."""

    def __post_init__(self) -> None:
        check_share("network.dropout", self.dropout)
        if self.series_size < 0:
            raise ValueError(f"network.series_size cannot be negative, got {self.series_size}.")

    @property
    def knows_series(self) -> bool:
        """With an embedding of each series."""
        return self.series_size > 0

    def build(self, shape: DataShape, *, num_outputs: int) -> ForecastingNetwork:
        """The network for data of this shape."""
        return DirectNetwork(self, shape=shape, num_outputs=num_outputs)


class DirectNetwork(ForecastingNetwork):
    """Many-to-one, then all horizons at once; see `Direct`."""

    def __init__(self, config: Direct, *, shape: DataShape, num_outputs: int) -> None:
        super().__init__(window_scaling=config.scaling)
        self.has_missing = shape.has_missing
        self.embedding = nn.Embedding(shape.num_series, config.series_size) if config.series_size else None
        self.recurrent = Recurrent(
            config.recurrent, input_size=1 + int(shape.has_missing) + shape.num_calendar + config.series_size
        )
        self.pooling = build_pooling(
            config.pooling,
            num_features=self.recurrent.output_size,
            bidirectional=config.recurrent.bidirectional,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = StepDecoder(
            self.recurrent.output_size, horizon=shape.horizon, num_calendar=shape.num_calendar, num_outputs=num_outputs
        )

    def forecast(
        self,
        values: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        calendar: Float[Tensor, "batch time features"],
        future: Float[Tensor, "batch horizon features"],
        series: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs from scaled windows."""
        inputs = self.step_inputs(values, observed=observed, calendar=calendar, series=series)
        outputs, _ = self.recurrent(inputs, lengths)
        decoded: Tensor = self.decoder(self.dropout(self.pooling(outputs, lengths)), future)
        return decoded

    def step_inputs(
        self,
        values: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        calendar: Float[Tensor, "batch time features"],
        series: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch time inputs"]:
        """What the recurrent layers read at each step."""
        inputs = [values.unsqueeze(-1), calendar]
        if self.has_missing:
            inputs.append(observed.unsqueeze(-1).to(values.dtype))
        if self.embedding is not None:
            inputs.append(self.embedding(series).unsqueeze(1).expand(-1, values.shape[1], -1))
        return torch.cat(inputs, dim=-1)


# Segment --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment(NetworkConfig):
    """Segments of the series as the steps of a GRU, all future segments decoded in parallel.

    Source: Lin et al., "SegRNN: Segment Recurrent Neural Network for Long-Term Time Series Forecasting", 2023.
    """

    segment_size: int = 24
    """Steps of a segment; must divide the context."""
    hidden_size: int = 512
    """Units of the GRU."""
    dropout: float = 0.5
    """Dropout before the last linear map."""
    series_embedding: bool = False
    """Tell the decoder which series it continues; series unseen in training can then not be forecast."""
    own_scaling: ClassVar[WindowScale] = "last"

    def __post_init__(self) -> None:
        check_share("network.dropout", self.dropout)
        if self.segment_size < 1 or self.hidden_size < 2 or self.hidden_size % 2:
            raise ValueError(
                "network.segment_size must be at least 1 and network.hidden_size even, "
                f"got {self.segment_size} and {self.hidden_size}."
            )

    @property
    def knows_series(self) -> bool:
        """With an embedding of each series."""
        return self.series_embedding

    def build(self, shape: DataShape, *, num_outputs: int) -> ForecastingNetwork:
        """The network for data of this shape."""
        return SegmentNetwork(self, shape=shape, num_outputs=num_outputs)


class SegmentNetwork(ForecastingNetwork):
    """Segments of the series as the steps of a GRU; see `Segment`.

    In the parallel decoder every future segment starts from the same encoder state and is told its position. The state
    is the same for all segments of a window and the position the same for all windows, so both gate products are made
    once and broadcast, instead of once for every (window, segment).
    """

    def __init__(self, config: Segment, *, shape: DataShape, num_outputs: int) -> None:
        super().__init__(window_scaling=config.scaling)
        size = config.segment_size
        if shape.context % size:
            below, above = shape.context // size * size, -(-shape.context // size) * size
            raise ValueError(
                f"network.segment_size is {size}, which does not divide the context of {shape.context} steps. "
                f"Set data.context to {f'{below} or {above}' if below else above}, or choose another segment_size."
            )
        self.segment_size = size
        self.horizon = shape.horizon
        self.num_outputs = num_outputs
        self.has_missing = shape.has_missing
        num_future = -(-shape.horizon // size)
        self.embed = nn.Sequential(nn.Linear(size * (1 + int(shape.has_missing)), config.hidden_size), nn.ReLU())
        self.recurrent = Recurrent(
            RecurrentConfig(kind="gru", hidden_size=config.hidden_size), input_size=config.hidden_size
        )
        half = config.hidden_size // 2 if config.series_embedding else config.hidden_size
        self.position = nn.Parameter(torch.randn(num_future, half))
        self.series = nn.Parameter(torch.randn(shape.num_series, half)) if config.series_embedding else None
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.hidden_size, size * num_outputs)

    def forecast(
        self,
        values: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        calendar: Float[Tensor, "batch time features"],
        future: Float[Tensor, "batch horizon features"],
        series: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs from scaled windows."""
        num_segments = -(-lengths // self.segment_size)
        segments = self._segments(values, lengths, num_segments)
        if self.has_missing:
            seen = self._segments(observed.to(values.dtype), lengths, num_segments)
            segments = torch.cat([segments, seen], dim=-1)
        _, state = self.recurrent(self.embed(segments), num_segments)
        outputs = self.project(self.dropout(self._decode(state.hidden[-1], series)))
        steps: Tensor = outputs.view(len(outputs), -1, self.num_outputs)  # (segments x size) steps in their order
        return steps[:, : self.horizon]

    def _segments(
        self, values: Float[Tensor, "batch time"], lengths: Int[Tensor, "batch"], num_segments: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch segments size"]:
        """Cut so that the last segment ends with the window; a shorter first one is filled with 0 on its left."""
        num_steps = -(-values.shape[1] // self.segment_size) * self.segment_size
        shift = num_segments * self.segment_size - lengths
        source = torch.arange(num_steps, device=values.device) - shift.unsqueeze(1)
        inside = (source >= 0) & (source < lengths.unsqueeze(1))
        aligned = values.gather(1, source.clamp(0, values.shape[1] - 1)).masked_fill(~inside, 0.0)
        return aligned.view(len(values), -1, self.segment_size)

    def _decode(
        self, hidden: Float[Tensor, "batch hidden"], series: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch segments hidden"]:
        weights = CellWeights(*(getattr(self.recurrent, f"{name}_l0") for name in CellWeights._fields))
        half = self.position.shape[1]
        products = nn.functional.linear(self.position, weights.weight_ih[:, :half], weights.bias_ih)
        projected = products.unsqueeze(0)
        if self.series is not None:
            of_series = nn.functional.linear(self.series, weights.weight_ih[:, half:])
            projected = projected + of_series[series].unsqueeze(1)
        return gru_update(projected, hidden=hidden.unsqueeze(1), weights=weights)


# Feed-forward ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeedForwardBaseline(NetworkConfig):
    """Fully connected layers on the whole window (notes N1): the baseline every recurrent network is held against."""

    layers: FeedForwardConfig = field(default_factory=lambda: FeedForwardConfig(hidden_sizes=[256, 256]))
    """The fully connected layers."""

    def build(self, shape: DataShape, *, num_outputs: int) -> ForecastingNetwork:
        """The network for data of this shape."""
        return FeedForwardNetwork(self, shape=shape, num_outputs=num_outputs)


class FeedForwardNetwork(ForecastingNetwork):
    """Fully connected layers on the whole window; see `FeedForwardBaseline`."""

    def __init__(self, config: FeedForwardBaseline, *, shape: DataShape, num_outputs: int) -> None:
        super().__init__(window_scaling=config.scaling)
        self.context = shape.context
        self.has_missing = shape.has_missing
        self.horizon = shape.horizon
        # The first step's place in the calendar is enough: those of the others follow from it.
        self.layers = FeedForward(
            config.layers,
            input_size=shape.context * (1 + int(shape.has_missing)) + shape.num_calendar,
            output_size=shape.horizon * num_outputs,
        )

    def forecast(
        self,
        values: Float[Tensor, "batch time"],
        *,
        observed: Bool[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        calendar: Float[Tensor, "batch time features"],
        future: Float[Tensor, "batch horizon features"],
        series: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch horizon outputs"]:
        """Outputs from scaled windows, aligned so that they end at the same input."""
        inputs = [self._aligned(values, lengths), future[:, 0]]
        if self.has_missing:
            inputs.append(self._aligned(observed.to(values.dtype), lengths))
        outputs: Tensor = self.layers(torch.cat(inputs, dim=1))
        return outputs.view(len(values), self.horizon, -1)

    def _aligned(
        self, values: Float[Tensor, "batch time"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch context"]:
        source = torch.arange(self.context, device=values.device) - (self.context - lengths).unsqueeze(1)
        return values.gather(1, source.clamp(0, values.shape[1] - 1)).masked_fill(source < 0, 0.0)


def check_share(name: str, value: float) -> None:
    """Refuse a share to drop that is none, under the name of its key."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}.")
