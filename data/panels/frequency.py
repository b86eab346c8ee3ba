"""What a pandas offset alias means in numbers: its step, its family, where its dates fall, and how to find it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Int64, Shaped

if TYPE_CHECKING:
    import pandas as pd

Family = Literal["second", "minute", "hour", "day", "business_day", "week", "month", "quarter", "year"]

SECONDS_A_DAY = 86_400
KNOWN_ALIASES = "s, min, h, D, B, W-MON, MS, ME, QS, QE, YS, YE and their multiples (15min, 2h, 3MS)"

_FIXED_FAMILIES: tuple[tuple[int, Family], ...] = (
    (7 * SECONDS_A_DAY, "week"),
    (SECONDS_A_DAY, "day"),
    (3_600, "hour"),
    (60, "minute"),
    (1, "second"),
)
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# The longest series may have gaps where a shorter one has none; more tries than this only cost time.
_MAX_SERIES_TRIED = 20


@dataclass(frozen=True)
class Frequency:
    """A parsed frequency. "60min" is 1 hour, "24h" 1 day, "7D" 1 week, "3MS" 1 quarter: the family is the coarsest."""

    alias: str
    """As pandas writes it: "D", "15min", "W-SUN", "QS-JAN"."""
    family: Family
    """The coarsest unit that the step is a whole number of."""
    multiple: int
    """Units of the family in one step, at least 1."""
    seconds: int | None
    """Length of a step in seconds; None where steps differ in length (B, MS) or are anchored (W-SUN)."""


def parse_frequency(alias: str) -> Frequency:
    """Parses a pandas offset alias.

    Raises:
        ValueError: The alias is unknown to pandas, negative, finer than a second or of a kind with no regular
            calendar (business hours, holidays, half months).
    """
    import pandas as pd

    offset = _offset(alias)
    multiple, name = int(offset.n), offset.freqstr
    if multiple < 1:
        raise ValueError(f"frequency is {alias!r}: a step must lead forward. Known: {KNOWN_ALIASES}.")
    if isinstance(offset, pd.offsets.Day):  # since pandas 3 no Tick
        return _fixed(name, multiple * SECONDS_A_DAY)
    if isinstance(offset, pd.offsets.Tick):
        seconds, rest = divmod(int(offset.nanos), 10**9)
        if rest:
            raise ValueError(
                f"frequency is {alias!r}: fractions of a second are not supported. Known: {KNOWN_ALIASES}."
            )
        return _fixed(name, seconds)
    # Custom business days inherit from BusinessDay, but their holidays are lost in the alias.
    if type(offset) is pd.offsets.BusinessDay:
        return Frequency(name, "business_day", multiple, None)
    if isinstance(offset, pd.offsets.Week):
        return Frequency(name, "week", multiple, None)
    months = multiple * _months_a_step(offset)
    if not months:
        raise ValueError(f"frequency is {alias!r}, which has no regular calendar here. Known: {KNOWN_ALIASES}.")
    if months % 12 == 0:
        return Frequency(name, "year", months // 12, None)
    if months % 3 == 0:
        return Frequency(name, "quarter", months // 3, None)
    return Frequency(name, "month", months, None)


def steps_after(last: np.datetime64, frequency: Frequency, *, num_steps: int) -> Shaped[np.ndarray, "num_steps"]:
    """The `num_steps` dates (datetime64[s]) that follow `last`.

    Raises:
        ValueError: `last` is no date of the frequency (2012-01-05 for "MS").
    """
    if frequency.seconds is not None:
        return last + frequency.seconds * np.arange(1, num_steps + 1).astype("timedelta64[s]")
    import pandas as pd

    dates = pd.date_range(last, periods=num_steps + 1, freq=frequency.alias).to_numpy().astype("datetime64[s]")
    if dates[0] != last:
        raise ValueError(f"{last} is no date of frequency {frequency.alias!r}; the next one is {dates[0]}.")
    return dates[1:]


@dataclass(frozen=True)
class Positions:
    """Where each row stands on the calendar of its series."""

    steps: Int64[np.ndarray, "total"]
    """Steps since the first row of the series."""
    off: Bool[np.ndarray, "total"]
    """True where the date is none of the calendar; `steps` means nothing there."""
    grid: Shaped[np.ndarray, "dates"] | None
    """All dates of a step that follows the calendar, in base steps; None for a step of fixed length."""
    first: Int64[np.ndarray, "num_series"]
    """Place of the first row: in the grid, or in seconds since 1970."""
    stride: int = 1
    """Dates of the grid in one step."""


def positions(
    timestamps: Shaped[np.ndarray, "total"], offsets: Int64[np.ndarray, "bounds"], frequency: Frequency
) -> Positions:
    """Counts each row's steps since the first row of its series; rows are sorted within a series, none is empty."""
    lengths = np.diff(offsets)
    if frequency.seconds is not None:
        seconds = timestamps.astype(np.int64)
        first = seconds[offsets[:-1]]
        steps, rest = np.divmod(seconds - np.repeat(first, lengths), frequency.seconds)
        return Positions(steps, rest != 0, None, first)
    import pandas as pd

    offset = _offset(frequency.alias)
    # Series of "2MS" may start in different months: the grid is in single steps, each series counts from its own start.
    grid = pd.date_range(timestamps.min(), timestamps.max(), freq=offset.base).to_numpy().astype("datetime64[s]")
    if len(grid) == 0:
        none = np.zeros(len(timestamps), np.int64)
        return Positions(none, np.ones(len(timestamps), bool), grid, none[: len(lengths)])
    index = np.minimum(np.searchsorted(grid, timestamps), len(grid) - 1).astype(np.int64)
    off = grid[index] != timestamps
    first = index[offsets[:-1]]
    steps, rest = np.divmod(index - np.repeat(first, lengths), int(offset.n))
    return Positions(steps, off | (rest != 0), grid, first, int(offset.n))


def infer_frequency(timestamps: Shaped[np.ndarray, "total"], offsets: Int64[np.ndarray, "bounds"]) -> Frequency | None:
    """The frequency that the longest gap-free series has, or else the one of the most common step; None for neither.

    A daily panel with steps over weekends but no row on one is of business days. Rows are sorted within a series.
    """
    lengths = np.diff(offsets)
    longest = np.argsort(-lengths, kind="stable")[:_MAX_SERIES_TRIED]
    found: Frequency | None = None
    for i in longest[lengths[longest] >= 3]:
        found = _infer_gap_free(timestamps[offsets[i] : offsets[i + 1]])
        if found is not None:
            break
    if found is None:
        found = _infer_common_step(timestamps, offsets)
    if found is not None and found.alias == "D" and _is_business_calendar(timestamps, offsets):
        return parse_frequency("B")
    return found


def describe_seconds(seconds: int) -> str:
    """A length of time in the coarsest unit that it is a whole number of: "30 minutes", "1 day"."""
    for unit_seconds, unit in _FIXED_FAMILIES[1:]:
        if seconds % unit_seconds == 0:
            num_units = seconds // unit_seconds
            return f"{num_units} {unit}" + ("" if num_units == 1 else "s")
    raise AssertionError("every whole number of seconds is a number of seconds")


def within_series_steps(
    timestamps: Shaped[np.ndarray, "total"], offsets: Int64[np.ndarray, "bounds"]
) -> tuple[Int64[np.ndarray, "steps"], Int64[np.ndarray, "steps"]]:
    """(seconds from a row to the next one of the same series, index of the first of the two rows)."""
    steps = np.diff(timestamps.astype(np.int64))
    inside = np.ones(len(steps), bool)
    inside[offsets[1:-1] - 1] = False
    (rows,) = np.nonzero(inside)
    return steps[rows], rows


def _offset(alias: str) -> "pd.offsets.BaseOffset":
    import pandas as pd

    try:
        return pd.tseries.frequencies.to_offset(alias)
    except ValueError as error:
        hint = str(error).rpartition("Failed to parse with error message: ")[2]
        raise ValueError(
            f"frequency is {alias!r}, which pandas does not know ({hint}). Known: {KNOWN_ALIASES}."
        ) from None


def _fixed(alias: str, seconds: int) -> Frequency:
    for unit_seconds, family in _FIXED_FAMILIES:
        if seconds % unit_seconds == 0:
            return Frequency(alias, family, seconds // unit_seconds, seconds)
    raise AssertionError("every whole number of seconds is a number of seconds")


def _months_a_step(offset: "pd.offsets.BaseOffset") -> int:
    """Months in one single step of a month, quarter or year offset; 0 for any other."""
    from pandas import offsets

    if type(offset) in (offsets.MonthBegin, offsets.MonthEnd, offsets.BMonthBegin, offsets.BMonthEnd):
        return 1
    if isinstance(offset, (offsets.QuarterBegin, offsets.QuarterEnd, offsets.BQuarterBegin, offsets.BQuarterEnd)):
        return 3
    if isinstance(offset, (offsets.YearBegin, offsets.YearEnd, offsets.BYearBegin, offsets.BYearEnd)):
        return 12
    return 0


def _infer_gap_free(timestamps: Shaped[np.ndarray, "time"]) -> Frequency | None:
    import warnings

    import pandas as pd

    with warnings.catch_warnings():
        # pandas 4 will return an offset in place of its alias: both are read below.
        warnings.simplefilter("ignore")
        inferred = pd.infer_freq(pd.DatetimeIndex(timestamps))
    if inferred is None:
        return None
    try:
        return parse_frequency(inferred if isinstance(inferred, str) else inferred.freqstr)
    except ValueError:
        # An alias without a regular calendar ("WOM-3FRI"): the most common step may still be one of ours.
        return None


def _infer_common_step(
    timestamps: Shaped[np.ndarray, "total"], offsets: Int64[np.ndarray, "bounds"]
) -> Frequency | None:
    """By the step that half of all steps have, two at least: fewer is no calendar with gaps, but dates without one."""
    steps, rows = within_series_steps(timestamps, offsets)
    if len(steps) < 2:
        return None
    # Months, quarters and years have several lengths: counted as one.
    months_a_step = np.zeros(len(steps), np.int64)
    for months, shortest, longest in ((1, 28, 31), (3, 90, 92), (12, 365, 366)):
        months_a_step[(steps >= shortest * SECONDS_A_DAY) & (steps <= longest * SECONDS_A_DAY)] = months
    kinds, kind_of_step, counts = np.unique(
        np.where(months_a_step > 0, -months_a_step, steps), return_inverse=True, return_counts=True
    )
    most = int(np.argmax(counts))
    if counts[most] < 2 or 2 * counts[most] < len(steps):
        return None
    seconds = int(kinds[most])
    if seconds > 0:
        weeks, rest = divmod(seconds, 7 * SECONDS_A_DAY)
        if rest == 0:
            weekday = _WEEKDAYS[int(_weekdays(timestamps[rows[kind_of_step == most]])[0])]
            return parse_frequency(f"{weeks}W-{weekday}")
        for unit_seconds, unit in ((SECONDS_A_DAY, "D"), (3_600, "h"), (60, "min")):
            if seconds % unit_seconds == 0:
                return parse_frequency(f"{seconds // unit_seconds}{unit}")
        return parse_frequency(f"{seconds}s")
    months = -seconds
    days_stamped = timestamps.astype("datetime64[D]")
    month_of_row = days_stamped.astype("datetime64[M]")
    # The anchor month of a quarter or a year is the one that most rows are in.
    month_numbers = month_of_row.astype(np.int64) % 12
    month = _MONTHS[int(np.bincount(month_numbers % months if months < 12 else month_numbers).argmax())]
    if np.all(days_stamped == month_of_row.astype("datetime64[D]")):
        return parse_frequency({1: "MS", 3: f"QS-{month}", 12: f"YS-{month}"}[months])
    if np.all((days_stamped + 1).astype("datetime64[M]") > month_of_row):
        return parse_frequency({1: "ME", 3: f"QE-{month}", 12: f"YE-{month}"}[months])
    return None


def _weekdays(timestamps: Shaped[np.ndarray, "time"]) -> Int64[np.ndarray, "time"]:
    """0 for Monday; 1970-01-01 was a Thursday."""
    return (timestamps.astype("datetime64[D]").astype(np.int64) + 3) % 7


def _is_business_calendar(timestamps: Shaped[np.ndarray, "total"], offsets: Int64[np.ndarray, "bounds"]) -> bool:
    weekdays = _weekdays(timestamps)
    if np.any(weekdays >= 5):
        return False
    steps, rows = within_series_steps(timestamps, offsets)
    return bool(np.any((weekdays[rows] == 4) & (steps == 3 * SECONDS_A_DAY)))
