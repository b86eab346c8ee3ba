"""Where a date stands in the day, the week, the month and the year, as sine and cosine."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from data.panels.frequency import Family, parse_frequency

# Cycles that a step of the family can tell apart. One that it cannot (the hour of a daily series) would be a constant.
_CYCLES: dict[Family, tuple[str, ...]] = {
    "second": ("second_of_minute", "minute_of_hour", "hour_of_day", "day_of_week", "day_of_year"),
    "minute": ("minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year"),
    "hour": ("hour_of_day", "day_of_week", "day_of_month", "day_of_year"),
    "day": ("day_of_week", "day_of_month", "day_of_year"),
    "business_day": ("day_of_week", "day_of_month", "day_of_year"),
    "week": ("day_of_month", "day_of_year"),
    "month": ("month_of_year",),
    "quarter": ("month_of_year",),
    "year": (),
}

# Steps in the season of one unit, and in that of a multiple of it.
_SEASONS: dict[Family, tuple[int, int]] = {
    "second": (60, 3_600),
    "minute": (60, 1_440),
    "hour": (24, 24),
    "day": (7, 7),
    "business_day": (5, 5),
    "week": (52, 52),
    "month": (12, 12),
    "quarter": (4, 4),
    "year": (1, 1),
}


def calendar_feature_names(frequency: str) -> list[str]:
    """Names of the features that matter at a frequency, for `calendar_features`; none for yearly series.

    A checkpoint stores the names: they alone say how the features are computed, whatever this function returns later.

    Args:
        frequency: pandas offset alias. "60min" counts as hourly, "24h" as daily, "7D" as weekly, "3MS" as quarterly.

    Raises:
        ValueError: The alias is unknown.
    """
    return [f"{cycle}_{wave}" for cycle in _CYCLES[parse_frequency(frequency).family] for wave in ("sin", "cos")]


def calendar_features(
    timestamps: Shaped[np.ndarray, "*shape"], names: Sequence[str]
) -> Float32[np.ndarray, "*shape features"]:
    """Sine or cosine of 2 pi x (units since the cycle began / units in this cycle), one feature a name, in [-1, 1].

    Units are whole and the calendar is exact: a month has its own number of days and a leap year 366. A value depends
    on its date alone, whatever the array around it. Weeks begin on Monday.

    Args:
        timestamps: datetime64 of any unit and any shape.
        names: As from `calendar_feature_names`.

    Raises:
        ValueError: A name is unknown, or the array holds no dates (or NaT).
    """
    if timestamps.dtype.kind != "M":
        raise ValueError(f"Calendar features need an array of datetime64, got {timestamps.dtype}.")
    if np.isnat(timestamps).any():
        raise ValueError("Calendar features need a date everywhere, got NaT.")
    for name in names:
        cycle, _, wave = name.rpartition("_")
        if cycle not in _PHASES or wave not in ("sin", "cos"):
            known = ", ".join(_PHASES)
            raise ValueError(f"Calendar feature {name!r} is unknown. Known: _sin or _cos of {known}.")
    seconds = timestamps.astype("datetime64[s]").reshape(-1)
    features = np.empty((len(seconds), len(names)), np.float32)
    phases: dict[str, np.ndarray] = {}
    for column, name in enumerate(names):
        cycle, _, wave = name.rpartition("_")
        if cycle not in phases:
            unit, period = _PHASES[cycle](seconds)
            phases[cycle] = 2 * np.pi * (unit / period)
        features[:, column] = np.sin(phases[cycle]) if wave == "sin" else np.cos(phases[cycle])
    return features.reshape(*timestamps.shape, len(names))


def default_season_length(frequency: str) -> int:
    """Steps after which a series of this frequency usually repeats; 1 for "no season".

    One unit: second 60 (a minute), minute 60 (an hour), hour 24 (a day), day 7 and business day 5 (a week), week 52,
    month 12 and quarter 4 (a year), year 1. A multiple n of a unit divides its season, which for seconds is then the
    hour (30s: 120) and for minutes the day (15min: 96): the next cycle up holds too few of such steps to show a
    shape. Where n does not divide the season (5h, 2D) there is none: 1. Equal steps are equal: 60min is 24 as h is.

    Raises:
        ValueError: The alias is unknown.
    """
    parsed = parse_frequency(frequency)
    of_one, of_many = _SEASONS[parsed.family]
    if parsed.multiple == 1:
        return of_one
    return of_many // parsed.multiple if of_many % parsed.multiple == 0 else 1


_Phase = tuple[Int64[np.ndarray, "dates"], Int64[np.ndarray, "dates"] | int]


def _of_fixed_cycle(unit_seconds: int, period: int) -> Callable[[Shaped[np.ndarray, "dates"]], _Phase]:
    # 1970-01-01 began a minute, an hour and a day, so plain floor division counts.
    return lambda seconds: (seconds.astype(np.int64) // unit_seconds % period, period)


def _day_of_week(seconds: Shaped[np.ndarray, "dates"]) -> _Phase:
    # 1970-01-01 was a Thursday.
    return (seconds.astype("datetime64[D]").astype(np.int64) + 3) % 7, 7


def _day_of(unit: str) -> Callable[[Shaped[np.ndarray, "dates"]], _Phase]:
    def phase(seconds: Shaped[np.ndarray, "dates"]) -> _Phase:
        days = seconds.astype("datetime64[D]")
        first = days.astype(f"datetime64[{unit}]")
        begin = first.astype("datetime64[D]")
        return (days - begin).astype(np.int64), ((first + 1).astype("datetime64[D]") - begin).astype(np.int64)

    return phase


def _month_of_year(seconds: Shaped[np.ndarray, "dates"]) -> _Phase:
    return seconds.astype("datetime64[M]").astype(np.int64) % 12, 12


_PHASES: dict[str, Callable[[Shaped[np.ndarray, "dates"]], _Phase]] = {
    "second_of_minute": _of_fixed_cycle(1, 60),
    "minute_of_hour": _of_fixed_cycle(60, 60),
    "hour_of_day": _of_fixed_cycle(3_600, 24),
    "day_of_week": _day_of_week,
    "day_of_month": _day_of("M"),
    "day_of_year": _day_of("Y"),
    "month_of_year": _month_of_year,
}
