"""Calendar features against Python's own calendar, date by date."""

import calendar as python_calendar
import datetime
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.series.calendar_features import calendar_feature_names, calendar_features, default_season_length

# A busy machine is no failure.
patient = settings(deadline=None)

ALIASES = ["s", "min", "15min", "h", "D", "B", "W-SUN", "MS", "QE-DEC", "YS-JAN"]
ALL_NAMES = sorted({name for alias in ALIASES for name in calendar_feature_names(alias)})
DATES = st.datetimes(min_value=datetime.datetime(1900, 1, 1), max_value=datetime.datetime(2400, 1, 1)).map(
    lambda date: date.replace(microsecond=0)
)


def reference(date: datetime.datetime, cycle: str) -> float:
    """Share of the cycle that has gone by, in [0, 1)."""
    leap = python_calendar.isleap(date.year)
    return {
        "second_of_minute": date.second / 60,
        "minute_of_hour": date.minute / 60,
        "hour_of_day": date.hour / 24,
        "day_of_week": date.weekday() / 7,
        "day_of_month": (date.day - 1) / python_calendar.monthrange(date.year, date.month)[1],
        "day_of_year": (date.timetuple().tm_yday - 1) / (366 if leap else 365),
        "month_of_year": (date.month - 1) / 12,
    }[cycle]


@patient
@given(dates=st.lists(DATES, min_size=1, max_size=20))
def test_features_are_those_of_the_exact_calendar(dates: list[datetime.datetime]) -> None:
    features = calendar_features(np.array(dates, "datetime64[s]"), ALL_NAMES)
    assert features.dtype == np.float32
    for row, date in zip(features, dates, strict=True):
        for feature, name in zip(row, ALL_NAMES, strict=True):
            cycle, _, wave = name.rpartition("_")
            expected = getattr(math, wave)(2 * math.pi * reference(date, cycle))
            assert feature == pytest.approx(expected, abs=1e-6), (date, name)


@patient
@given(dates=st.lists(DATES, min_size=6, max_size=6), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_a_value_depends_on_its_date_alone(dates: list[datetime.datetime], unit: str) -> None:
    """Contract 2: whatever the shape, the unit and the order of names, each value is bit-identical."""
    dates = [date.replace(year=1970 + date.year % 200) if (date.month, date.day) != (2, 29) else date for date in dates]
    flat = np.array(
        [date if 1700 < date.year < 2200 else datetime.datetime(2000, 2, 29) for date in dates], "datetime64[s]"
    )
    features = calendar_features(flat, ALL_NAMES)
    np.testing.assert_array_equal(
        calendar_features(flat.astype(f"datetime64[{unit}]").reshape(2, 3), ALL_NAMES), features.reshape(2, 3, -1)
    )
    np.testing.assert_array_equal(calendar_features(flat, ALL_NAMES[::-1]), features[:, ::-1])
    for i in range(6):
        np.testing.assert_array_equal(calendar_features(np.asarray(flat[i]), ALL_NAMES), features[i])


@pytest.mark.parametrize("alias", ["s", "min", "10min", "h", "6h", "D", "B", "W-MON", "MS", "QS-JAN"])
def test_no_feature_is_a_constant_at_its_frequency(alias: str) -> None:
    import pandas as pd

    dates = pd.date_range("2012-01-01", periods=4_000, freq=alias).to_numpy().astype("datetime64[s]")
    names = [name for name in calendar_feature_names(alias) if not (alias in {"s", "min"} and name.startswith("day"))]
    assert names
    assert np.all(calendar_features(dates, names).std(axis=0) > 1e-3)


def test_equal_steps_have_equal_names_and_yearly_series_none() -> None:
    assert calendar_feature_names("24h") == calendar_feature_names("D")
    assert calendar_feature_names("60min") == calendar_feature_names("h")
    assert calendar_feature_names("7D") == calendar_feature_names("W-SUN")
    assert calendar_feature_names("YS") == []
    assert calendar_features(np.array(["2012"], "datetime64[s]"), []).shape == (1, 0)


def test_names_in_a_checkpoint_keep_their_meaning() -> None:
    """Stored names outlive this version: the list may grow, but these stay, with these values."""
    names = ["hour_of_day_sin", "day_of_week_cos", "day_of_month_sin", "day_of_year_sin", "month_of_year_cos"]
    features = calendar_features(np.array("2012-03-10T06:59:59", "datetime64[s]"), names)
    expected = [
        1.0,
        math.cos(2 * math.pi * 5 / 7),
        math.sin(2 * math.pi * 9 / 31),
        math.sin(2 * math.pi * 69 / 366),
        math.cos(2 * math.pi * 2 / 12),
    ]
    np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["hour_of_day", "hour_of_day_tan", "moon_sin", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="day_of_year") as error:
        calendar_features(np.array(["2012"], "datetime64[s]"), [name])
    assert repr(name) in str(error.value)


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        calendar_features(np.zeros(3), ["hour_of_day_sin"])
    with pytest.raises(ValueError, match="NaT"):
        calendar_features(np.array(["NaT"], "datetime64[s]"), ["hour_of_day_sin"])


@pytest.mark.parametrize(
    ("alias", "season"),
    [
        ("h", 24),
        ("D", 7),
        ("W", 52),
        ("MS", 12),
        ("ME", 12),
        ("QS", 4),
        ("B", 5),
        ("min", 60),
        ("YS", 1),
        ("s", 60),
        ("60min", 24),
        ("24h", 7),
        ("7D", 52),
        ("3MS", 4),
        ("12MS", 1),
        ("15min", 96),
        ("30min", 48),
        ("30s", 120),
        ("6h", 4),
        ("2MS", 6),
        ("2W", 26),
        ("5h", 1),
        ("2D", 1),
        ("7min", 1),
        ("36h", 1),
    ],
)
def test_season_lengths(alias: str, season: int) -> None:
    assert default_season_length(alias) == season
