"""Several checkpoints that forecast together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl

from apps.forecasting.heads import HeadConfig, Point, Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.network import Direct, NetworkConfig, Segment
from apps.forecasting.predict import predict
from core.nn.recurrent import RecurrentConfig
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from data.forecasting import ForecastingData
from data.panels.panel import Panel
from tests.apps.forecasting.test_predict import write_csv

LEVELS = [0.1, 0.5, 0.9]
DIRECT = Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=4))

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory, make_panel: Callable[..., Panel]) -> Path:
    return write_csv(make_panel([40, 36]), tmp_path_factory.mktemp("input") / "daily.csv")


@pytest.fixture(scope="module")
def train(csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A checkpoint of a run of one step in float64."""

    def _train(
        name: str,
        *,
        network: NetworkConfig = DIRECT,
        head: HeadConfig | None = None,
        context: int = 6,
        horizon: int = 4,
    ) -> Path:
        folder = tmp_path_factory.mktemp(name)
        data = ForecastingData(str(csv), context=context, horizon=horizon, season_length=2, cache_dir=str(folder))
        checkpoints = RunCheckpoints(folder / "checkpoints", config=CheckpointConfig())
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            precision="64-true",
            default_root_dir=str(folder),
            callbacks=[checkpoints],
            **quiet,
        )
        trainer.fit(ForecastingModule(network=network, head=head or Quantiles(LEVELS)), datamodule=data)
        return checkpoints.last_path

    return _train


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def direct(train: Train) -> Path:
    return train("direct")


def test_forecasts_and_quantiles_are_the_mean_of_the_members(
    direct: Path, train: Train, csv: Path, tmp_path: Path
) -> None:
    """Another network, which reads twice as much of the past."""
    segment = train("segment", network=Segment(segment_size=4, hidden_size=6), context=12)
    tables = []
    for name, first, others in (("a", direct, []), ("b", segment, []), ("both", direct, [str(segment)])):
        predict(str(first), str(csv), str(tmp_path / f"{name}.csv"), ensemble=others)
        tables.append(pd.read_csv(tmp_path / f"{name}.csv").set_index(["unique_id", "ds"]))
    one, other, both = tables
    assert both.index.equals(one.index)
    assert both.columns.equals(one.columns)
    np.testing.assert_allclose(both.to_numpy(), (one.to_numpy() + other.to_numpy()) / 2, rtol=1e-9)
    assert not np.allclose(one.to_numpy(), other.to_numpy(), rtol=1e-3)
    assert (np.diff(both[["q0.1", "q0.5", "q0.9"]].to_numpy(), axis=1) >= 0).all()


def test_what_cannot_forecast_together_is_refused(direct: Path, train: Train, csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    cases: list[tuple[Any, str]] = [
        (direct, "is given twice"),
        (train("shorter", horizon=3), "differ in the horizon,"),
        (train("point", head=Point()), "other quantiles, none and 0.1, 0.5, 0.9"),
    ]
    for other, message in cases:
        with pytest.raises(ValueError, match=message):
            predict(str(direct), str(csv), str(output), ensemble=str(other))
        assert not output.exists()
