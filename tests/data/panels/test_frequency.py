"""Frequencies in numbers, against pandas' own calendars."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.panels.frequency import describe_seconds, infer_frequency, parse_frequency, positions, steps_after

# A busy machine is no failure.
patient = settings(deadline=None)

ALIASES = ["s", "30s", "min", "15min", "h", "6h", "D", "2D", "B", "W-MON", "2W-SUN"]
ALIASES += ["MS", "ME", "2MS", "QS-JAN", "QE-DEC", "YS-JAN", "YE-DEC", "BMS"]
STARTS = st.datetimes(min_value=pd.Timestamp("1950-01-01"), max_value=pd.Timestamp("2060-01-01")).map(
    lambda date: np.datetime64(date.replace(microsecond=0, second=0, minute=0, hour=0), "s")
)


def calendar(alias: str, start: np.datetime64, num_dates: int) -> np.ndarray:
    return pd.date_range(start, periods=num_dates, freq=alias).to_numpy().astype("datetime64[s]")


@pytest.mark.parametrize(
    ("alias", "family", "multiple"),
    [
        ("s", "second", 1),
        ("90s", "second", 90),
        ("15min", "minute", 15),
        ("60min", "hour", 1),
        ("24h", "day", 1),
        ("D", "day", 1),
        ("7D", "week", 1),
        ("W-WED", "week", 1),
        ("B", "business_day", 1),
        ("MS", "month", 1),
        ("2ME", "month", 2),
        ("3MS", "quarter", 1),
        ("QS-FEB", "quarter", 1),
        ("12MS", "year", 1),
        ("YE-JUN", "year", 1),
        ("BQE-DEC", "quarter", 1),
    ],
)
def test_the_family_is_the_coarsest_that_a_step_is_whole_in(alias: str, family: str, multiple: int) -> None:
    parsed = parse_frequency(alias)
    assert (parsed.family, parsed.multiple) == (family, multiple)


@pytest.mark.parametrize("alias", ["H", "fortnight", "-1D", "0D", "5ms", "bh", "SMS", "WOM-1MON", "C", ""])
def test_an_alias_without_a_regular_calendar_is_refused_with_the_known_ones(alias: str) -> None:
    with pytest.raises(ValueError, match="Known: s, min, h") as error:
        parse_frequency(alias)
    assert repr(alias) in str(error.value)


@patient
@given(alias=st.sampled_from(ALIASES), start=STARTS, num_steps=st.integers(1, 40))
def test_the_dates_that_follow_are_those_of_pandas(alias: str, start: np.datetime64, num_steps: int) -> None:
    dates = calendar(alias, start, num_steps + 1)
    np.testing.assert_array_equal(steps_after(dates[0], parse_frequency(alias), num_steps=num_steps), dates[1:])


@patient
@given(
    alias=st.sampled_from(ALIASES),
    start=STARTS,
    kept=st.lists(st.lists(st.integers(0, 60), min_size=1, unique=True), min_size=1, max_size=4),
)
def test_positions_count_the_steps_of_any_ragged_gappy_calendar(
    alias: str, start: np.datetime64, kept: list[list[int]]
) -> None:
    dates = calendar(alias, start, 61)
    steps = [np.sort(np.array(series)) for series in kept]
    offsets = np.concatenate([[0], np.cumsum([len(series) for series in steps])])
    places = positions(np.concatenate([dates[series] for series in steps]), offsets, parse_frequency(alias))
    assert not places.off.any()
    np.testing.assert_array_equal(places.steps, np.concatenate([series - series[0] for series in steps]))


@pytest.mark.parametrize(
    ("alias", "dates"),
    [
        ("h", ["2012-01-01T00:00", "2012-01-01T01:00", "2012-01-01T01:30"]),
        ("MS", ["2012-01-01", "2012-02-01", "2012-02-15"]),
        ("2MS", ["2012-01-01", "2012-03-01", "2012-04-01"]),
        ("B", ["2012-01-05", "2012-01-06", "2012-01-07"]),
        ("YS-JAN", ["2012-02-01", "2012-03-01", "2012-04-01"]),
    ],
)
def test_a_date_off_the_calendar_is_marked(alias: str, dates: list[str]) -> None:
    places = positions(np.array(dates, "datetime64[s]"), np.array([0, 3]), parse_frequency(alias))
    assert places.off[2]


@patient
@given(alias=st.sampled_from(ALIASES), start=STARTS, num_dates=st.integers(24, 60))
def test_a_gap_free_calendar_is_found_again(alias: str, start: np.datetime64, num_dates: int) -> None:
    dates = calendar(alias, start, num_dates)
    found = infer_frequency(dates, np.array([0, num_dates]))
    assert found is not None
    # "2MS" of January may come back as itself, a week as an anchored one: the dates that follow are what counts.
    expected = calendar(alias, dates[-1], 9)[1:]
    np.testing.assert_array_equal(steps_after(dates[-1], found, num_steps=8), expected)


@patient
@given(
    alias=st.sampled_from(["30s", "15min", "h", "D", "B", "W-MON", "MS", "ME", "QS-FEB", "QE-DEC", "YS-JAN", "YE-JUN"]),
    start=STARTS,
    gap=st.integers(20, 30),
)
def test_with_a_gap_the_most_common_step_decides(alias: str, start: np.datetime64, gap: int) -> None:
    dates = np.delete(calendar(alias, start, 60), gap)
    found = infer_frequency(dates, np.array([0, 59]))
    assert found is not None
    np.testing.assert_array_equal(
        steps_after(dates[-1], found, num_steps=8), steps_after(dates[-1], parse_frequency(alias), num_steps=8)
    )


def test_business_days_are_seen_across_series_too_short_to_show_them() -> None:
    """The longest series runs from Monday to Friday and looks daily; the other one steps over a weekend."""
    week = calendar("B", np.datetime64("2012-01-02", "s"), 5)
    over_weekend = calendar("B", np.datetime64("2012-01-06", "s"), 3)
    found = infer_frequency(np.concatenate([week, over_weekend]), np.array([0, 5, 8]))
    assert found is not None
    assert found.alias == "B"


@pytest.mark.parametrize(
    "dates", [["2012-01-01"], ["2012-01-01", "2012-01-02"], ["2012-01-03", "2012-02-15", "2012-03-01"]]
)
def test_no_frequency_is_made_up(dates: list[str]) -> None:
    assert infer_frequency(np.array(dates, "datetime64[s]"), np.array([0, len(dates)])) is None


def test_lengths_of_time_read_well() -> None:
    described = [describe_seconds(n) for n in (1, 90, 60, 7200, 86_400, 172_800)]
    assert described == ["1 second", "90 seconds", "1 minute", "2 hours", "1 day", "2 days"]
