"""The applications as the contracts see them. A new application joins by one line in `CASES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from apps.forecasting.heads import Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.network import Direct, FeedForwardBaseline, NetworkConfig, Segment
from apps.forecasting.stream_network import Stream
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.training.module import ApplicationModule
from core.training.optimisation import Cosine, OptimizerConfig
from data.forecast_streams import StreamBatch, StreamConfig
from data.forecasting import ForecastBatch, ForecastingData
from data.module import LoaderConfig, PlannedDataModule


class Run(NamedTuple):
    """A module with its data, both fresh."""

    module: ApplicationModule
    data: PlannedDataModule


@dataclass(frozen=True)
class Case:
    """How the contracts exercise an application.

    Attributes:
        application: its name.
        make: `make(folder, variant=..., dropout=..., num_workers=...)`, a small run on data written to `folder`.
        variants: networks that the invariance must hold for.
        config: `config(folder)`: a YAML text of the same run for the command line.
        pad: the same batch with more padding, filled with junk.
        select: the chosen examples of a batch.
        predict_args: arguments of `predict` beside the checkpoint, from a folder.
    """

    application: str
    make: Callable[..., Run]
    variants: tuple[str, ...]
    config: Callable[[Path], str]
    pad: Callable[[Any, int, float], Any]
    select: Callable[[Any, torch.Tensor], Any]
    predict_args: Callable[[Path], list[str]]


# Forecasting ----------------------------------------------------------------------------------------------------------


def write_panel(folder: Path, *, lengths: Sequence[int] = (90, 97, 104, 111), name: str = "panel") -> Path:
    """Hourly series of different lengths, with values missing here and there."""
    path = folder / f"{name}.csv"
    if path.exists():
        return path
    generator = np.random.default_rng(0)
    lines = ["unique_id,ds,y"]
    for series, length in enumerate(lengths):
        dates = np.datetime64("2024-01-01T00", "h") + np.arange(length)
        values = 5 * series + 3 * np.sin(np.arange(length) * 2 * np.pi / 24) + generator.normal(size=length)
        for row, (date, value) in enumerate(zip(dates, values, strict=True)):
            text = "" if (row * 7 + series) % 29 == 0 else f"{value:.6f}"
            lines.append(f"series{series},{date}:00,{text}")
    path.write_text("\n".join(lines) + "\n")
    return path


def _forecasting_network(variant: str, dropout: float) -> NetworkConfig:
    if variant == "segment":
        return Segment(segment_size=4, hidden_size=8, dropout=dropout, series_embedding=True)
    if variant == "feed_forward":
        return FeedForwardBaseline(layers=FeedForwardConfig(hidden_sizes=[8], dropout=dropout))
    kind, pooling = {"direct_lstm": ("lstm", "attention"), "direct_gru": ("gru", "last")}[variant]
    return Direct(
        recurrent=RecurrentConfig(kind=kind, hidden_size=6, num_layers=2, bidirectional=True, dropout=dropout),
        pooling=pooling,
        dropout=dropout,
        series_size=2,
    )


def _forecasting(
    folder: Path,
    *,
    variant: str = "direct_lstm",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 26,
    optimizer: OptimizerConfig | None = None,
) -> Run:
    module = ForecastingModule(
        network=_forecasting_network(variant, dropout),
        head=Quantiles([0.1, 0.5, 0.9]),
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    data = ForecastingData(
        str(write_panel(folder)),
        context=12,
        min_context=5,
        horizon=3,
        batch_size=batch_size,
        season_length=24,
        cache_dir=str(folder / "cache"),
        loader=LoaderConfig(num_workers=num_workers),
        seed=3,
    )
    return Run(module, data)


def _forecasting_config(folder: Path) -> str:
    return f"""
seed_everything: 3
data:
  path: {write_panel(folder)}
  cache_dir: {folder / "cache"}
  context: 12
  min_context: 5
  horizon: 3
  batch_size: 26
  season_length: 24
model:
  network:
    class_path: Direct
    init_args:
      recurrent: {{kind: lstm, hidden_size: 6}}
  optimizer: {{name: sgd, lr: 0.1}}
checkpoint: {{every_n_steps: 3, every_minutes: null}}
baseline: {{enabled: false}}
trainer:
  accelerator: cpu
  precision: 64-true
  max_epochs: 2
  enable_progress_bar: false
  gradient_clip_val: 0.5
  log_every_n_steps: 1
"""


def _pad_forecasting(batch: ForecastBatch, extra: int, junk: float) -> ForecastBatch:
    size = batch.context.shape[1]
    padding = torch.arange(size + extra) >= batch.lengths.unsqueeze(1)
    context = torch.nn.functional.pad(batch.context, (0, extra)).masked_fill(padding, junk)
    observed = torch.nn.functional.pad(batch.observed, (0, extra)) | padding  # even a wrong mask there must not matter
    calendar = torch.nn.functional.pad(batch.calendar, (0, 0, 0, extra)).masked_fill(padding.unsqueeze(-1), junk)
    return batch._replace(context=context, observed=observed, calendar=calendar)


def _select_forecasting(batch: ForecastBatch, indices: torch.Tensor) -> ForecastBatch:
    chosen = ForecastBatch(*[part[indices] for part in batch])
    size = int(chosen.lengths.max())
    return chosen._replace(
        context=chosen.context[:, :size], observed=chosen.observed[:, :size], calendar=chosen.calendar[:, :size]
    )


FORECASTING = Case(
    application="forecasting",
    make=_forecasting,
    variants=("direct_lstm", "direct_gru", "segment", "feed_forward"),
    config=_forecasting_config,
    pad=_pad_forecasting,
    select=_select_forecasting,
    predict_args=lambda folder: ["--input", str(write_panel(folder)), "--output", str(folder / "out.csv")],
)

# Forecasting over whole series, the state carried from chunk to chunk ----------------------------------------------------


def write_streams(folder: Path) -> Path:
    """More series than a batch holds, so that some wait for others to end."""
    return write_panel(folder, lengths=[40 + 17 * series % 61 for series in range(30)], name="streams")


def _forecasting_stream(
    folder: Path,
    *,
    variant: str = "chunks",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 26,
    optimizer: OptimizerConfig | None = None,
) -> Run:
    whole = variant != "chunks"
    kind = "gru" if variant == "whole_gru" else "lstm"
    module = ForecastingModule(
        network=Stream(
            recurrent=RecurrentConfig(
                kind=kind, hidden_size=6, num_layers=2, dropout=dropout, learn_initial_state=kind == "gru"
            ),
            dropout=dropout,
            series_size=2,
        ),
        head=Quantiles([0.1, 0.5, 0.9]),
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    data = ForecastingData(
        str(write_streams(folder)),
        context=12,
        min_context=5,
        horizon=3,
        batch_size=batch_size,
        # A chunk that covers its series needs no state of another: its example may stand in any batch.
        stream=StreamConfig(chunk_size=1000) if whole else StreamConfig(chunk_size=8, shift=5),
        season_length=24,
        cache_dir=str(folder / "cache"),
        loader=LoaderConfig(num_workers=num_workers),
        seed=3,
    )
    return Run(module, data)


def _forecasting_stream_config(folder: Path) -> str:
    text = _forecasting_config(folder).replace(str(write_panel(folder)), str(write_streams(folder)))
    text = text.replace("  batch_size: 26", "  stream: {chunk_size: 8, shift: 5}\n  batch_size: 26")
    return text.replace("class_path: Direct", "class_path: Stream")


def _pad_stream(batch: StreamBatch, extra: int, junk: float) -> StreamBatch:
    horizon = batch.values.shape[1] - int(batch.lengths.max())
    padding = torch.arange(batch.values.shape[1] + extra) >= (batch.lengths + horizon).unsqueeze(1)
    values = torch.nn.functional.pad(batch.values, (0, extra)).masked_fill(padding, junk)
    observed = torch.nn.functional.pad(batch.observed, (0, extra)) | padding
    calendar = torch.nn.functional.pad(batch.calendar, (0, 0, 0, extra)).masked_fill(padding.unsqueeze(-1), junk)
    return batch._replace(values=values, observed=observed, calendar=calendar)


def _select_stream(batch: StreamBatch | ForecastBatch, indices: torch.Tensor) -> StreamBatch | ForecastBatch:
    if isinstance(batch, ForecastBatch):
        return _select_forecasting(batch, indices)
    horizon = batch.values.shape[1] - int(batch.lengths.max())
    rows, chunk = indices.tolist(), batch.chunk
    chosen = chunk._replace(
        streams=tuple(chunk.streams[row] for row in rows),
        starts=tuple(chunk.starts[row] for row in rows),
        ends=tuple(chunk.ends[row] for row in rows),
        lengths=chunk.lengths[indices],
        context=chunk.context[indices],
    )
    size = int(chosen.lengths.max()) + horizon
    return batch._replace(
        values=batch.values[indices, :size],
        observed=batch.observed[indices, :size],
        calendar=batch.calendar[indices, :size],
        chunk=chosen,
        series=batch.series[indices],
        example=batch.example[indices],
        weight=batch.weight[indices],
    )


FORECASTING_STREAM = Case(
    application="forecasting",
    make=_forecasting_stream,
    variants=("whole_lstm", "whole_gru"),
    config=_forecasting_stream_config,
    pad=_pad_stream,
    select=_select_stream,
    predict_args=lambda folder: ["--input", str(write_streams(folder)), "--output", str(folder / "out.csv")],
)

CASES = (FORECASTING,)
