"""A panel: many time series of one frequency, of different starts and lengths, in flat arrays."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from data.panels.frequency import parse_frequency, steps_after


@dataclass(frozen=True)
class Panel:
    """Series of one frequency, laid end to end: series i is `values[offsets[i]:offsets[i + 1]]`.

    Ragged by nature: nothing is padded, nothing is aligned between series. Within a series the calendar has no gap; a
    value that is not known is NaN. All fields are plain data (lists, arrays, text), so a panel can be cached or sent
    to a worker as it is.

    Raises:
        ValueError: The arrays do not fit together, a series is empty, or an id is there twice.
    """

    series_ids: list[str]
    """One name a series, each once."""
    values: Float64[np.ndarray, "total"]
    """Observations in the unit of the file, NaN where missing; never infinite."""
    offsets: Int64[np.ndarray, "bounds"]
    """(num_series + 1,): where each series starts, and the end of the last one."""
    timestamps: Shaped[np.ndarray, "total"]
    """datetime64[s], UTC or of no zone; one step of `frequency` apart within a series."""
    frequency: str
    """pandas offset alias of the step: "D", "h", "15min", "MS", "B"."""

    def __post_init__(self) -> None:
        for name, dtype in (("values", np.float64), ("offsets", np.int64), ("timestamps", np.dtype("datetime64[s]"))):
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(
                    f"A panel's {name} must be one flat array of {np.dtype(dtype)}, "
                    f"got {array.dtype} of shape {array.shape}."
                )
        if len(self.offsets) != len(self.series_ids) + 1 or self.offsets[0] != 0:
            raise ValueError(
                f"A panel's offsets must start at 0 and have one entry more than series_ids ({len(self.series_ids)}), "
                f"got {len(self.offsets)} entries."
            )
        if len(self.values) != self.offsets[-1] or len(self.timestamps) != self.offsets[-1]:
            raise ValueError(
                f"A panel's values ({len(self.values)}) and timestamps ({len(self.timestamps)}) must both be as "
                f"long as its last offset ({self.offsets[-1]})."
            )
        empty = np.flatnonzero(np.diff(self.offsets) < 1)
        if len(empty):
            raise ValueError(f"A series must have a row; series {self.series_ids[empty[0]]!r} has none. Leave it out.")
        if len(set(self.series_ids)) != len(self.series_ids):
            raise ValueError("A panel's series_ids must differ from each other; one is there twice.")
        parse_frequency(self.frequency)

    @property
    def num_series(self) -> int:
        """Number of series."""
        return len(self.series_ids)

    @property
    def lengths(self) -> Int64[np.ndarray, "num_series"]:
        """Rows of each series, missing values included."""
        return np.diff(self.offsets)

    def series(self, i: int) -> Float64[np.ndarray, "time"]:
        """Values of series i: a view, no copy."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def series_timestamps(self, i: int) -> Shaped[np.ndarray, "time"]:
        """Dates of series i (datetime64[s]): a view, no copy."""
        return self.timestamps[self.offsets[i] : self.offsets[i + 1]]

    def future_timestamps(self, i: int, horizon: int) -> Shaped[np.ndarray, "horizon"]:
        """The `horizon` dates (datetime64[s]) that follow the last one of series i.

        Raises:
            ValueError: The last date of the series is no date of the panel's frequency.
        """
        return steps_after(self.timestamps[self.offsets[i + 1] - 1], parse_frequency(self.frequency), num_steps=horizon)
