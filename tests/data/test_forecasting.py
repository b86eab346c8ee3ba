"""Windows with what surrounds them, against a loop over each window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import Piece
from data.forecasting import (
    ForecastBatch,
    ForecastingData,
    ScaledPanel,
    newest_windows,
    seasonal_error,
    series_scaling,
)
from data.panels.panel import Panel

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=60)


@st.composite
def panels(draw: st.DrawFn) -> Panel:
    """Daily series of 1 to 25 rows, some of their values missing, beginning on different days."""
    lengths = draw(st.lists(st.integers(1, 25), min_size=1, max_size=4))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    values = generator.integers(-9, 10, sum(lengths)).astype(np.float64)
    values[generator.random(sum(lengths)) < draw(st.sampled_from([0.0, 0.3, 0.8]))] = np.nan
    return daily([values[end - size : end] for size, end in zip(lengths, np.cumsum(lengths), strict=True)])


def daily(series: list[np.ndarray]) -> Panel:
    days = [np.arange(number, number + len(values)) for number, values in enumerate(series)]
    return Panel(
        series_ids=[f"s{number}" for number in range(len(series))],
        values=np.concatenate(series),
        offsets=np.concatenate([[0], np.cumsum([len(values) for values in series])]).astype(np.int64),
        timestamps=np.datetime64("2024-02-20", "s") + np.concatenate(days) * np.timedelta64(86_400, "s"),
        frequency="D",
    )


def unscaled(panel: Panel, calendar: list[str] | None = None) -> ScaledPanel:
    return ScaledPanel.of(
        panel, mean=np.zeros(panel.num_series), scale=np.ones(panel.num_series), calendar=calendar or []
    )


# Baseline and unit ----------------------------------------------------------------------------------------------------


@patient
@given(panel=panels(), horizon=st.integers(1, 9), season=st.integers(1, 30), data=st.data())
def test_the_seasonal_naive_forecast(panel: Panel, horizon: int, season: int, data: st.DataObject) -> None:
    """Seasons longer than the horizon, than the context and than the series; origins from the first row on."""
    series = np.array(data.draw(st.lists(st.integers(0, panel.num_series - 1), min_size=1, max_size=5)))
    origins = np.array([data.draw(st.integers(1, int(panel.lengths[i]))) for i in series])
    ours = unscaled(panel).seasonal_naive(series, origins, horizon=horizon, season=season)
    assert ours.shape == (len(series), horizon)
    for row, (i, origin) in enumerate(zip(series, origins, strict=True)):
        values = panel.series(i)
        for step in range(horizon):
            source = origin + step
            while source >= origin:  # the last whole season before the origin
                source -= season
            if source < 0:
                source = origin - 1
            known = values[: source + 1][~np.isnan(values[: source + 1])]
            assert ours[row, step] == (known[-1] if len(known) else 0.0), (i, origin, step)


@patient
@given(panel=panels(), season=st.integers(1, 30), data=st.data())
def test_the_unit_of_mase(panel: Panel, season: int, data: st.DataObject) -> None:
    """Mean absolute seasonal difference of the training part alone; NaN where there is none or all are 0."""
    ends = np.array([data.draw(st.integers(0, int(length))) for length in panel.lengths])
    ours = seasonal_error(panel, ends, season=season)
    for i, end in enumerate(ends):
        values = panel.series(i)
        gaps = [abs(values[t] - values[t - season]) for t in range(season, end)]
        gaps = [gap for gap in gaps if not np.isnan(gap)]
        expected = sum(gaps) / len(gaps) if gaps and sum(gaps) > 0 else np.nan
        assert ours[i] == pytest.approx(expected, nan_ok=True)


def test_what_comes_after_the_training_part_is_no_part_of_the_unit() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0, 1e9, -1e9])
    assert seasonal_error(daily([values]), np.array([4]), season=1) == pytest.approx([2.0])


# Windows --------------------------------------------------------------------------------------------------------------


def write_csv(panel: Panel, path: Path) -> str:
    lines = ["unique_id,ds,y"]
    for i in range(panel.num_series):
        for date, value in zip(panel.series_timestamps(i), panel.series(i), strict=True):
            lines.append(f"{panel.series_ids[i]},{str(date)[:10]},{'' if np.isnan(value) else repr(float(value))}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def waves(*lengths: int) -> Panel:
    generator = np.random.default_rng(1)
    series = [5 * n + np.sin(np.arange(length)) + generator.normal(size=length) for n, length in enumerate(lengths)]
    for values in series:
        values[7::11] = np.nan
    return daily(series)


def make_data(panel: Panel, folder: Path, **settings_: Any) -> ForecastingData:
    data = ForecastingData(
        write_csv(panel, folder / "panel.csv"),
        **{"context": 9, "horizon": 3, "min_context": 4, "season_length": 5, "cache_dir": str(folder), **settings_},
    )
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("scaling", ["standard", "none"])
def test_every_window_holds_its_series_values_and_calendar(part: str, scaling: str, tmp_path: Path) -> None:
    panel = waves(60, 45, 40)
    data = make_data(panel, tmp_path, scaling=scaling)
    dataset = data.dataset(part)
    shuffled = np.random.default_rng(0).permutation(len(dataset))
    batch = dataset.batch(Piece(0, shuffled))
    series, origins = dataset.locate(shuffled)
    assert torch.equal(batch.series, torch.from_numpy(series))
    assert torch.equal(batch.example, torch.from_numpy(shuffled))
    assert (batch.weight == 1).all()
    for row, (i, origin) in enumerate(zip(series, origins, strict=True)):
        values, dates = panel.series(i), panel.series_timestamps(i)
        if scaling == "standard":
            train = values[: int(len(values) * 0.7 + 1e-6)]
            values = (values - np.nanmean(train)) / np.nanstd(train)
        length = int(batch.lengths[row])
        assert length == min(origin, 9)
        for ours, seen, plain in (
            (batch.context[row, :length], batch.observed[row, :length], values[origin - length : origin]),
            (batch.target[row], batch.target_observed[row], values[origin : origin + 3]),
        ):
            np.testing.assert_array_equal(seen, ~np.isnan(plain))
            np.testing.assert_allclose(ours, np.nan_to_num(plain), rtol=1e-5, atol=1e-6)
        days = (dates.astype("datetime64[D]").astype(int) + 3) % 7
        sine = data.calendar_names.index("day_of_week_sin")
        for calendar, of in (
            (batch.calendar[row, :length], days[origin - length : origin]),
            (batch.future_calendar[row], days[origin : origin + 3]),
        ):
            np.testing.assert_allclose(calendar[:, sine], np.sin(2 * np.pi * of / 7), atol=1e-6)
    assert batch.seasonal_naive.shape == (len(dataset), 0 if part == "train" else 3)


def test_training_windows_step_by_the_stride_and_evaluation_takes_all(tmp_path: Path) -> None:
    one = make_data(waves(60), tmp_path)
    three = make_data(waves(60), tmp_path, stride=3)
    assert len(three.dataset("train")) == -(-len(one.dataset("train")) // 3)
    for part in ("validation", "test"):
        assert len(three.dataset(part)) == len(one.dataset(part))


def test_nothing_of_validation_or_test_reaches_what_is_fitted(tmp_path: Path) -> None:
    """Scaling and MASE unit come from the training part alone."""
    panel = waves(60, 45)
    folders = [tmp_path / name for name in ("before", "after")]
    for folder in folders:
        folder.mkdir()
    before = make_data(panel, folders[0])
    for i, end in enumerate(before.train_ends):
        panel.series(i)[end:] *= 1000
    after = make_data(panel, folders[1])
    for name in ("mean", "scale", "seasonal_error"):
        assert torch.equal(before.preprocessing()[name], after.preprocessing()[name]), name
    assert before.settings() != after.settings()


def test_series_too_short_for_a_window_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_data(waves(60, 5), tmp_path)
    assert "train: 1 of 2 series left out, too short for a window of 4 + 3 steps: s1" in capsys.readouterr().err


def test_the_calendar_can_be_left_out(tmp_path: Path) -> None:
    data = make_data(waves(60), tmp_path, calendar=False)
    batch = data.dataset("test").batch(Piece(0, np.array([0, 1])))
    assert batch.calendar.shape[-1] == batch.future_calendar.shape[-1] == 0


@pytest.mark.parametrize("setting", ["context", "horizon", "stride", "season_length", "batch_size"])
def test_sizes_below_one_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{setting} must be at least 1.*got 0"):
        ForecastingData("panel.csv", **{"context": 3, "horizon": 3, setting: 0})


def test_a_batch_changes_its_precision_and_nothing_else(tmp_path: Path) -> None:
    batch = make_data(waves(60), tmp_path).dataset("test").batch(Piece(0, np.array([0, 1])))
    wide = batch.in_dtype(torch.float64)
    assert isinstance(wide, ForecastBatch)
    for name, before, after in zip(ForecastBatch._fields, batch, wide, strict=True):
        assert after.dtype == (torch.float64 if before.is_floating_point() else before.dtype), name
        torch.testing.assert_close(after, before, check_dtype=False)


# New data -------------------------------------------------------------------------------------------------------------


def test_the_newest_window_is_the_test_window_of_a_longer_file(tmp_path: Path) -> None:
    """What `predict` shows the network is what evaluation would have shown it, whatever the size of its chunks."""
    panel = waves(60, 45, 40)
    data = make_data(panel, tmp_path)
    preprocessing = data.preprocessing()
    cut = daily([panel.series(i)[: panel.lengths[i] - 3] for i in range(3)])
    dataset = data.dataset("test")
    last = np.cumsum(dataset.index.num_windows) - 1
    expected = dataset.batch(Piece(0, last.astype(np.int64)))
    for chunk in (1, 2, 1024):
        batches = newest_windows(cut, preprocessing, chunk=chunk)
        assert len(batches) == -(-3 // chunk)
        for name in ("context", "observed", "lengths", "calendar", "future_calendar", "seasonal_naive", "series"):
            ours = torch.cat([getattr(batch, name) for batch in batches])
            torch.testing.assert_close(ours, getattr(expected, name), msg=name, rtol=1e-6, atol=1e-6)


def test_new_series_are_scaled_by_their_own_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preprocessing = make_data(waves(60, 45), tmp_path).preprocessing()
    values = 100 + 7 * np.sin(np.arange(30.0))
    new = Panel(
        series_ids=["s1", "newcomer"],
        values=np.concatenate([np.arange(30.0), values]),
        offsets=np.array([0, 30, 60]),
        timestamps=np.tile(np.datetime64("2024-05-01", "s") + np.arange(30) * np.timedelta64(86_400, "s"), 2),
        frequency="D",
    )
    mean, scale = series_scaling(new, preprocessing)
    assert "1 series unseen in training are scaled by their own history: ['newcomer']" in capsys.readouterr().err
    assert (mean[0], scale[0]) == (float(preprocessing["mean"][1]), float(preprocessing["scale"][1]))
    assert mean[1] == pytest.approx(values.mean())
    assert scale[1] == pytest.approx(values.std())
    (batch,) = newest_windows(new, preprocessing)
    assert batch.series.tolist() == [1, -1]
    np.testing.assert_allclose(batch.context[1], (values[-9:] - values.mean()) / values.std(), rtol=1e-5, atol=1e-6)
    assert series_scaling(new, {**preprocessing, "scaling": "none"})[1].tolist() == [1, 1]


def test_new_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    preprocessing = make_data(waves(60), tmp_path).preprocessing()
    with pytest.raises(ValueError, match="forecasts series of frequency 'h', but the input's is 'D'"):
        newest_windows(waves(60), {**preprocessing, "frequency": "h"})
    with pytest.raises(ValueError, match=r"2 of 3 series are shorter than the 4 steps.*s1, s2"):
        newest_windows(waves(60, 3, 2), preprocessing)
    with pytest.raises(ValueError, match="shorter than the 9 steps"):
        newest_windows(waves(60, 8), {**preprocessing, "min_context": None})
