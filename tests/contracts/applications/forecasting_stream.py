"""Forecasting over whole series, the state carried from chunk to chunk, as the contracts see it."""

from __future__ import annotations

from pathlib import Path

import torch

from apps.forecasting.__main__ import FORECASTING as COMMAND
from apps.forecasting.heads import Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.stream_network import Stream
from core.nn.recurrent import RecurrentConfig
from core.training.optimisation import Cosine, OptimizerConfig
from data.forecasting import ForecastBatch, ForecastingData
from data.module import LoaderConfig
from data.series.forecast_streams import StreamBatch, StreamConfig
from tests.contracts.applications.forecasting import forecasting_config, select_forecasting, write_panel
from tests.contracts.case import Case, Run


def write_streams(folder: Path) -> Path:
    """More series than a batch holds, so that some wait for others to end."""
    return write_panel(folder, lengths=[40 + 17 * series % 61 for series in range(30)], name="streams")


def _make(
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


def _config(folder: Path) -> str:
    text = forecasting_config(folder).replace(str(write_panel(folder)), str(write_streams(folder)))
    text = text.replace("  batch_size: 26", "  stream: {chunk_size: 8, shift: 5}\n  batch_size: 26")
    return text.replace("class_path: Direct", "class_path: Stream")


def _pad(batch: StreamBatch, extra: int, junk: float) -> StreamBatch:
    horizon = batch.values.shape[1] - int(batch.lengths.max())
    padding = torch.arange(batch.values.shape[1] + extra) >= (batch.lengths + horizon).unsqueeze(1)
    values = torch.nn.functional.pad(batch.values, (0, extra)).masked_fill(padding, junk)
    observed = torch.nn.functional.pad(batch.observed, (0, extra)) | padding
    calendar = torch.nn.functional.pad(batch.calendar, (0, 0, 0, extra)).masked_fill(padding.unsqueeze(-1), junk)
    return batch._replace(values=values, observed=observed, calendar=calendar)


def _select(batch: StreamBatch | ForecastBatch, indices: torch.Tensor) -> StreamBatch | ForecastBatch:
    if isinstance(batch, ForecastBatch):
        return select_forecasting(batch, indices)
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
    name="forecasting_stream",
    entry=COMMAND,
    make=_make,
    variants=("whole_lstm", "whole_gru"),
    config=_config,
    pad=_pad,
    select=_select,
    predict_args=lambda folder: ["--input", str(write_streams(folder)), "--output", str(folder / "out.csv")],
    is_further=True,
    # A killed stream is resumed, also on another number of processes, in test_streaming.
    process_tests=("test_two_processes_take_the_steps_of_one", "test_two_processes_measure_what_one_does"),
)
