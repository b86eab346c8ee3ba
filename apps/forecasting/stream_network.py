"""Many-to-many over whole series: a forecast of the horizon at every step, the state carried on (notes N5, N6).

Trained by truncated back-propagation through time (`core/training/truncated_bptt.py`) on the chunks of
`data/series/forecast_streams.py`. Evaluated and used as every other network is: it runs over a window, and the forecast at the
window's last step is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from apps.forecasting.network import DataShape, Direct, DirectNetwork, ForecastingNetwork, NetworkConfig, check_share
from apps.forecasting.scaling import WindowScale
from core.nn.lengths import valid_steps
from core.nn.recurrent import RecurrentConfig
from core.training.truncated_bptt import StreamStates, counted_steps, run_streams
from data.series.forecast_streams import StreamBatch


@dataclass(frozen=True)
class Stream(NetworkConfig):
    """Many-to-many over whole series in chunks (`data.stream`): at every step a forecast of all horizons."""

    recurrent: RecurrentConfig = field(default_factory=lambda: RecurrentConfig(kind="lstm", hidden_size=64))
    """The recurrent layers, of one direction."""
    dropout: float = 0.0
    """Dropout on their outputs."""
    series_size: int = 0
    """Size of a learned embedding of each series; 0: none, and unseen series can be forecast."""
    own_scaling: ClassVar[WindowScale] = "none"

    def __post_init__(self) -> None:
        check_share("network.dropout", self.dropout)
        if self.series_size < 0:
            raise ValueError(f"network.series_size cannot be negative, got {self.series_size}.")
        if self.recurrent.bidirectional:
            raise ValueError(
                "network.recurrent.bidirectional is true, but Stream carries its state forward from chunk to chunk, and a "
                "backward sub-network reads from an end that has not come yet. Set it to false, or choose Direct."
            )
        if self.scaling != "none":
            raise ValueError(
                f"network.window_scaling is {self.window_scaling!r}, but Stream reads whole series, its state carried from "
                "chunk to chunk: what it remembers would be in the units of windows that are past. Leave it out; "
                "data.scaling: standard scales each series by its training part."
            )

    @property
    def knows_series(self) -> bool:
        """With an embedding of each series."""
        return self.series_size > 0

    def build(self, shape: DataShape, *, num_outputs: int) -> ForecastingNetwork:
        """The network for data of this shape."""
        return StreamNetwork(self, shape=shape, num_outputs=num_outputs)


class StreamNetwork(DirectNetwork):
    """A forecast at every step; see `Stream`.

    Over a window it is `Direct` with the last output, and its weights have the same names: either can be fine-tuned
    from the other.
    """

    def __init__(self, config: Stream, *, shape: DataShape, num_outputs: int) -> None:
        over_a_window = Direct(
            window_scaling=config.scaling,
            recurrent=config.recurrent,
            pooling="last",
            dropout=config.dropout,
            series_size=config.series_size,
        )
        super().__init__(over_a_window, shape=shape, num_outputs=num_outputs)
        self.horizon = shape.horizon

    def forecast_steps(
        self, batch: StreamBatch, *, states: StreamStates
    ) -> Float[Tensor, "batch steps horizon outputs"]:
        """Outputs of the horizon after each step from `batch.num_skipped` on; `states` is moved on to the next chunk.

        Raises:
            ValueError: where a row continues a series whose state is not here; see `StreamStates.take`.
        """
        num_steps = batch.values.shape[1] - self.horizon
        valid = valid_steps(batch.lengths + self.horizon, batch.values.shape[1])
        # The decoder reads it at padded steps too, where a NaN would reach its gradient although no loss counts it.
        calendar = batch.calendar.masked_fill(~valid.unsqueeze(-1), 0.0)
        inputs = self.step_inputs(
            batch.values[:, :num_steps],
            observed=batch.observed[:, :num_steps],
            calendar=calendar[:, :num_steps],
            series=batch.series,
        )
        outputs = run_streams(self.recurrent, inputs, chunk=batch.chunk, states=states)
        future = following(calendar, horizon=self.horizon, first=batch.num_skipped)
        decoded: Tensor = self.decoder(self.dropout(outputs[:, batch.num_skipped :]), future)
        return decoded


def following(
    sequence: Shaped[Tensor, "batch time+horizon *features"], *, horizon: int, first: int
) -> Shaped[Tensor, "batch steps horizon *features"]:
    """The `horizon` steps after each step from `first` on: a view."""
    return sequence[:, first + 1 :].unfold(1, horizon, 1).movedim(-1, 2)


class StepTargets(NamedTuple):
    """What each step is to forecast."""

    values: Float[Tensor, "batch steps horizon"]
    counted: Bool[Tensor, "batch steps horizon"]
    """True where the value is known and its step is counted in this chunk."""


def step_targets(batch: StreamBatch, *, horizon: int) -> StepTargets:
    """The values after each step from `batch.num_skipped` on."""
    first = batch.num_skipped
    counted = counted_steps(batch.chunk, batch.values.shape[1] - horizon)[:, first:]
    observed = following(batch.observed, horizon=horizon, first=first)
    return StepTargets(following(batch.values, horizon=horizon, first=first), observed & counted.unsqueeze(-1))
