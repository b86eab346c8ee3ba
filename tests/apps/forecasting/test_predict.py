"""Forecasts of new data: dates, units, order, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from apps.forecasting.heads import HeadConfig, Point, Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.network import Direct, NetworkConfig, Segment
from apps.forecasting.predict import forecast_table, predict
from core.nn.recurrent import RecurrentConfig
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from data.forecasting import ForecastingData
from data.panels.panel import Panel

LEVELS = [0.1, 0.5, 0.9]


def make_module(
    preprocessing: dict[str, Any], *, network: NetworkConfig | None = None, head: HeadConfig | None = None
) -> ForecastingModule:
    module = ForecastingModule(
        network=network or Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=4)), head=head or Quantiles(LEVELS)
    )
    module.build(preprocessing)
    return module.double().eval()


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frequency", "begin"),
    [(name, "2023-11-01") for name in ("D", "h", "15min", "MS", "B")]
    + [("W-SUN", "2023-11-05"), ("QS-OCT", "2023-10-01")],
)
def test_dates_follow_each_series_own_end(
    frequency: str, begin: str, make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    """Series of different lengths and beginnings, on calendars with leap days, weekends and months of all lengths."""
    panel = make_panel([30, 12, 21], frequency=frequency, begin=begin)
    table = forecast_table(make_module(preprocessing_of(panel)), panel)
    assert table.columns.tolist() == ["unique_id", "ds", "mean", "q0.1", "q0.5", "q0.9"]
    assert table["unique_id"].tolist() == [name for name in panel.series_ids for _ in range(4)]
    for i, name in enumerate(panel.series_ids):
        end = pd.Timestamp(panel.series_timestamps(i)[-1])
        expected = pd.date_range(end, periods=5, freq=frequency)[1:]
        assert pd.DatetimeIndex(table.loc[table["unique_id"] == name, "ds"]).equals(expected.as_unit("s"))


@pytest.mark.parametrize("head", [Point(), Quantiles(LEVELS)], ids=["point", "quantiles"])
@pytest.mark.parametrize(
    "network",
    [
        Direct(recurrent=RecurrentConfig(kind="lstm", hidden_size=4), window_scaling="standard"),
        Segment(segment_size=4, hidden_size=6, series_embedding=True),
    ],
    ids=["direct", "segment"],
)
def test_values_are_a_forward_pass_in_the_units_of_the_file(
    head: HeadConfig,
    network: NetworkConfig,
    make_panel: Callable[..., Panel],
    preprocessing_of: Callable[..., dict[str, Any]],
) -> None:
    panel = make_panel([30, 12])
    preprocessing = preprocessing_of(panel, calendar=["day_of_week_sin"])
    module = make_module(preprocessing, network=network, head=head)
    table = forecast_table(module, panel)
    assert module.network is not None
    for i in range(panel.num_series):
        mean, scale = float(preprocessing["mean"][i]), float(preprocessing["scale"][i])
        values = torch.from_numpy((panel.series(i)[-8:] - mean) / scale).unsqueeze(0)
        dates = np.concatenate([panel.series_timestamps(i)[-8:], panel.future_timestamps(i, 4)])
        weekday = (dates.astype("datetime64[D]").astype(int) + 3) % 7
        calendar = torch.from_numpy(np.sin(2 * np.pi * weekday / 7)).view(1, -1, 1)
        with torch.no_grad():
            forecast = module.network(
                values,
                observed=torch.ones(1, 8, dtype=torch.bool),
                lengths=torch.tensor([8]),
                calendar=calendar[:, :8],
                future_calendar=calendar[:, 8:],
                series=torch.tensor([i]),
            )
        outputs = module.network.scaling.restore(forecast.outputs, forecast.window) * scale + mean
        rows = table[table["unique_id"] == panel.series_ids[i]]
        np.testing.assert_allclose(rows["mean"], head.mean(outputs)[0], rtol=1e-5)
        if head.levels:
            shown = rows[["q0.1", "q0.5", "q0.9"]].to_numpy()
            np.testing.assert_allclose(shown, outputs[0].sort(dim=-1).values, rtol=1e-5)
            assert (np.diff(shown, axis=1) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_new_data_is_read_in_the_precision_of_the_weights(
    dtype: torch.dtype, make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    """A checkpoint of a run in float64 comes back in float64, while files are read to float32."""
    panel = make_panel([30, 12])
    module = make_module(preprocessing_of(panel)).to(dtype)
    assert np.isfinite(forecast_table(module, panel)["mean"]).all()


def test_series_come_in_the_order_of_the_input_and_do_not_see_each_other(
    make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    panel = make_panel([30, 12, 21])
    module = make_module(preprocessing_of(panel))
    whole = forecast_table(module, panel).set_index(["unique_id", "ds"])
    for i in (2, 0):
        alone = Panel(
            series_ids=[panel.series_ids[i]],
            values=panel.series(i).copy(),
            offsets=np.array([0, int(panel.lengths[i])]),
            timestamps=panel.series_timestamps(i).copy(),
            frequency=panel.frequency,
        )
        table = forecast_table(module, alone).set_index(["unique_id", "ds"])
        pd.testing.assert_frame_equal(table, whole.loc[table.index], rtol=1e-10)


def test_an_unseen_series_is_forecast_from_its_own_history(
    make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    """Ten thousand times the unit of the training data: with the scale of another series it could not come out right."""
    panel, unseen = make_panel([30]), make_panel([30], seed=5)
    unseen = Panel(["newcomer"], unseen.values * 1e4, unseen.offsets, unseen.timestamps, "D")
    module = make_module(preprocessing_of(panel))
    table = forecast_table(module, unseen)
    mean, scale = unseen.values.mean(), unseen.values.std()
    own = {**preprocessing_of(unseen), "series_ids": ["newcomer"]}
    module.preprocessing = own
    pd.testing.assert_frame_equal(table, forecast_table(module, unseen), rtol=1e-6)
    assert (np.abs(table["mean"] - mean) < 10 * scale).all()


def test_a_network_with_series_embeddings_refuses_an_unseen_series(
    make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    known, panel = make_panel([30]), make_panel([30, 20, 20])
    for network in (
        Segment(segment_size=4, hidden_size=6, series_embedding=True),
        Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=4), series_size=2),
    ):
        module = make_module(preprocessing_of(known), network=network)
        with pytest.raises(ValueError, match="2 series of the input were not in the training data"):
            forecast_table(module, panel)


def test_a_series_that_is_too_short_is_named(
    make_panel: Callable[..., Panel], preprocessing_of: Callable[..., dict[str, Any]]
) -> None:
    panel = make_panel([30, 7])
    with pytest.raises(ValueError, match=r"1 of 2 series are shorter than the 8 steps.*series 1"):
        forecast_table(make_module(preprocessing_of(panel)), panel)
    ragged = preprocessing_of(panel, min_context=7)
    assert len(forecast_table(make_module(ragged), panel)) == 8


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory, make_panel: Callable[..., Panel]) -> Path:
    """Monthly series: their months differ in length, and a short file of them does not say what its step is."""
    path = tmp_path_factory.mktemp("input") / "monthly.csv"
    return write_csv(make_panel([40, 36], frequency="MS"), path)


def write_csv(panel: Panel, path: Path) -> Path:
    table = pd.DataFrame(
        {
            "unique_id": np.repeat(panel.series_ids, panel.lengths),
            "ds": panel.timestamps.astype("datetime64[D]").astype(str),
            "y": panel.values,
        }
    )
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def checkpoint(csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step in float64."""
    folder = tmp_path_factory.mktemp("run")
    data = ForecastingData(str(csv), context=6, horizon=3, season_length=2, cache_dir=str(folder))
    module = ForecastingModule(
        network=Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=4)), head=Quantiles(LEVELS)
    )
    checkpoints = RunCheckpoints(folder / "checkpoints", config=CheckpointConfig())
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision="64-true",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[checkpoints],
    )
    trainer.fit(module, datamodule=data)
    return checkpoints.last_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_is_forecast_from_the_checkpoint_alone(
    ending: str, checkpoint: Path, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / f"forecast{ending}"
    predict(str(checkpoint), str(csv), str(output))
    table = pd.read_csv(output, parse_dates=["ds"]) if ending == ".csv" else pd.read_parquet(output)
    assert table.columns.tolist() == ["unique_id", "ds", "mean", "q0.1", "q0.5", "q0.9"]
    assert table["unique_id"].tolist() == ["series 0"] * 3 + ["series 1"] * 3
    # The second series begins a month after the first and is four months shorter.
    assert table["ds"].dt.strftime("%Y-%m-%d").tolist() == [
        *("2026-06-01", "2026-07-01", "2026-08-01"),
        *("2026-03-01", "2026-04-01", "2026-05-01"),
    ]
    assert f"Wrote 6 rows (2 series x 3 steps) to {output}." in capsys.readouterr().out


def test_bfloat16_rounds_a_forecast(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    for name, precision in (("exact", None), ("rounded", "bf16-mixed")):
        predict(str(checkpoint), str(csv), str(tmp_path / f"{name}.csv"), precision=precision)
    exact, rounded = (
        pd.read_csv(tmp_path / f"{name}.csv").set_index(["unique_id", "ds"]) for name in ("exact", "rounded")
    )
    assert rounded.index.equals(exact.index)
    difference = (rounded - exact).abs().to_numpy().max() / exact.abs().to_numpy().max()
    assert 0 < difference < 0.05


def test_csv_and_parquet_say_the_same(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        predict(str(checkpoint), str(csv), str(tmp_path / f"out.{ending}"))
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out.csv", parse_dates=["ds"]),
        pd.read_parquet(tmp_path / "out.parquet"),
        check_dtype=False,
        rtol=1e-12,
    )


def test_the_end_of_a_file_is_all_a_forecast_needs(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    """Six rows a series: too few to show their frequency, which the checkpoint knows."""
    short = tmp_path / "short.csv"
    pd.read_csv(csv).groupby("unique_id").tail(6).to_csv(short, index=False)
    for name in (csv, short):
        predict(str(checkpoint), str(name), str(tmp_path / f"{name.stem}.parquet"))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "monthly.parquet"), pd.read_parquet(tmp_path / "short.parquet")
    )


def test_an_output_that_exists_is_replaced_only_when_told(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(ValueError, match=r"out\.csv exists.*--overwrite true"):
        predict(str(checkpoint), str(csv), str(output))
    assert output.read_text() == "mine"
    predict(str(checkpoint), str(csv), str(output), overwrite=True)
    assert output.read_text().startswith("unique_id,ds,mean")


def test_a_device_that_is_not_here_is_refused(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--device nowhere cannot be used here"):
        predict(str(checkpoint), str(csv), str(tmp_path / "out.csv"), device="nowhere")


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.CSV.gz"])
def test_an_unknown_ending_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one of \.csv, \.parquet"):
        predict("no.ckpt", "no.csv", str(tmp_path / name))


def test_an_output_folder_that_cannot_be_made_is_refused(checkpoint: Path, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, where the folder would be")
    with pytest.raises(ValueError, match=r"cannot be written \(.+\)\. Choose another folder"):
        predict(str(checkpoint), str(csv), str(tmp_path / "file" / "out.csv"))


def test_another_frequency_is_refused(checkpoint: Path, tmp_path: Path, make_panel: Callable[..., Panel]) -> None:
    daily = write_csv(make_panel([40]), tmp_path / "daily.csv")
    with pytest.raises(ValueError, match=r"MS"):
        predict(str(checkpoint), str(daily), str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()
