"""Forecasting from windows, as the contracts see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from apps.forecasting.__main__ import FORECASTING as COMMAND
from apps.forecasting.heads import Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.network import Direct, FeedForwardBaseline, NetworkConfig, Segment
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.training.optimisation import Cosine, OptimizerConfig
from data.forecasting import ForecastBatch, ForecastingData
from data.module import LoaderConfig
from tests.contracts.case import Case, Run


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


def _network(variant: str, dropout: float) -> NetworkConfig:
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


def _make(
    folder: Path,
    *,
    variant: str = "direct_lstm",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 26,
    optimizer: OptimizerConfig | None = None,
) -> Run:
    module = ForecastingModule(
        network=_network(variant, dropout),
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


def forecasting_config(folder: Path) -> str:
    """A run of two epochs on that panel, in float64."""
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


def _pad(batch: ForecastBatch, extra: int, junk: float) -> ForecastBatch:
    size = batch.context.shape[1]
    padding = torch.arange(size + extra) >= batch.lengths.unsqueeze(1)
    context = torch.nn.functional.pad(batch.context, (0, extra)).masked_fill(padding, junk)
    observed = torch.nn.functional.pad(batch.observed, (0, extra)) | padding  # even a wrong mask there must not matter
    calendar = torch.nn.functional.pad(batch.calendar, (0, 0, 0, extra)).masked_fill(padding.unsqueeze(-1), junk)
    return batch._replace(context=context, observed=observed, calendar=calendar)


def select_forecasting(batch: ForecastBatch, indices: torch.Tensor) -> ForecastBatch:
    """The chosen windows, with no more padding than the longest needs."""
    chosen = ForecastBatch(*[part[indices] for part in batch])
    size = int(chosen.lengths.max())
    return chosen._replace(
        context=chosen.context[:, :size], observed=chosen.observed[:, :size], calendar=chosen.calendar[:, :size]
    )


FORECASTING = Case(
    name="forecasting",
    entry=COMMAND,
    make=_make,
    variants=("direct_lstm", "direct_gru", "segment", "feed_forward"),
    config=forecasting_config,
    pad=_pad,
    select=select_forecasting,
    predict_args=lambda folder: ["--input", str(write_panel(folder)), "--output", str(folder / "out.csv")],
)
