"""Windows over a panel: which rows each part may forecast, where every window lies, and gathering many at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from data.panels.panel import Panel

PARTS = ("train", "validation", "test")
# Names in a message: enough to recognise the series, not a screenful.
_MAX_NAMED = 5


class WindowIndex:
    """Addresses every window of one part: number -> (series, origin). Nothing is copied out.

    The origin of a window is the row of its first forecast step, counted from the start of its series. It steps by
    `stride` from the first row of the part that has `min_context` rows before it, as long as `horizon` rows fit in.
    Series without a single window are left out and listed.

    Args:
        boundaries: First row that may be forecast and end of the part, for each series.
        series_ids: Names for messages.
        context: Steps that the network sees, at least 1.
        horizon: Steps to forecast, at least 1.
        stride: Steps from one window to the next.
        min_context: Fewest steps of history; None = `context`.
        part: Name of the part, for messages.

    Raises:
        ValueError: A size is below 1, `min_context` is above `context`, or no series has a window.
    """

    def __init__(
        self,
        boundaries: Int64[np.ndarray, "num_series 2"],
        *,
        series_ids: Sequence[str],
        context: int,
        horizon: int,
        stride: int = 1,
        min_context: int | None = None,
        part: str = "train",
    ) -> None:
        needed = context if min_context is None else min_context
        for name, size in (("context", context), ("horizon", horizon), ("stride", stride), ("min_context", needed)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1 step, got {size}.")
        if needed > context:
            raise ValueError(f"min_context ({needed}) must not be above context ({context}): more is never seen.")
        if boundaries.shape != (len(series_ids), 2):
            raise ValueError(
                f"A window index needs (first row, end) for each of {len(series_ids)} series, "
                f"got an array of shape {boundaries.shape}."
            )
        self.context = context
        self.horizon = horizon
        self.stride = stride
        self.min_context = needed
        self.first_origins = np.maximum(boundaries[:, 0], needed)
        room = boundaries[:, 1] - horizon - self.first_origins
        self.num_windows = np.where(room >= 0, room // stride + 1, 0)
        """Windows of each series."""
        self._ends = np.cumsum(self.num_windows)
        self.left_out = [series_ids[i] for i in np.flatnonzero(self.num_windows == 0).tolist()]
        """Names of the series without a window."""
        if len(self) == 0:
            raise ValueError(_no_window_message(boundaries, series_ids, context, horizon, needed, part))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(
        self, indices: Int64[np.ndarray, "windows"]
    ) -> tuple[Int64[np.ndarray, "windows"], Int64[np.ndarray, "windows"]]:
        """(series, origin in it) of windows by number, all at once.

        Raises:
            IndexError: A number is negative or not below `len(self)`.
        """
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"Window numbers run from 0 to {len(self) - 1}, got {indices.min()} to {indices.max()}.")
        series = np.searchsorted(self._ends, indices, side="right")
        within = indices - (self._ends - self.num_windows)[series]
        return series, self.first_origins[series] + within * self.stride

    def context_lengths(self, origins: Int64[np.ndarray, "windows"]) -> Int64[np.ndarray, "windows"]:
        """Steps of history that each window has: `context`, or fewer near the start of its series."""
        return np.asarray(np.minimum(origins, self.context))


class Windows(NamedTuple):
    """Windows of equal size, padded on the right."""

    values: Float32[np.ndarray, "windows size"]
    """Zero where missing and in the padding."""
    lengths: Int64[np.ndarray, "windows"]
    """Valid steps of each window, from its left."""
    observed: Bool[np.ndarray, "windows size"]
    """True where a step is valid and its value is known."""


def gather_windows(
    values: Float[np.ndarray, "total"],
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    *,
    size: int,
) -> Windows:
    """Copies many windows out of a panel's flat values in one go.

    Args:
        values: A panel's values, or the same standardised (`standardise`: float32 is the faster), NaN where missing.
        starts: First step of each window in the flat array: `panel.offsets[series] + origin - length`.
        lengths: Valid steps from there, at most `size`.
        size: Steps of the result.

    Raises:
        ValueError: A window leaves the array or is longer than `size`.
    """
    if len(starts) and (
        starts.min() < 0 or lengths.min() < 0 or lengths.max() > size or (starts + lengths).max() > len(values)
    ):
        raise ValueError(
            f"Windows must lie within the {len(values)} values and have 0 to {size} steps, got starts {starts.min()} "
            f"to {starts.max()}, ends up to {(starts + lengths).max()} and lengths {lengths.min()} to {lengths.max()}."
        )
    if len(values) >= size:
        # Rows of a sliding view are copied whole, several times faster than an index for each element. A window too
        # near the end of the array for a full row is read by element.
        origin = np.minimum(starts, len(values) - size)
        gathered = np.lib.stride_tricks.sliding_window_view(values, size)[origin].astype(np.float32, copy=False)
        (moved,) = np.nonzero(origin != starts)
    else:
        gathered = np.empty((len(starts), size), np.float32)
        moved = np.arange(len(starts))
    gathered[moved] = values[np.minimum(starts[moved, None] + np.arange(size), len(values) - 1)]
    observed = ~np.isnan(gathered)
    if len(lengths) and lengths.min() < size:
        observed &= np.arange(size) < lengths[:, None]
    gathered[~observed] = 0
    return Windows(gathered, lengths.astype(np.int64, copy=False), observed)


def fit_standard_scaling(
    panel: Panel, train_ends: Int64[np.ndarray, "num_series"], *, notify: Callable[[str], None]
) -> tuple[Float64[np.ndarray, "num_series"], Float64[np.ndarray, "num_series"]]:
    """Mean and population standard deviation of each series' known values before its train end.

    A series depends on no other. One that is constant there keeps its mean and gets scale 1; one with no known value
    gets mean 0 and scale 1. Both are reported by name.

    Raises:
        ValueError: `train_ends` does not fit the panel.
    """
    if train_ends.shape != (panel.num_series,) or np.any(train_ends < 0) or np.any(train_ends > panel.lengths):
        raise ValueError(f"Scaling needs a train end within each of {panel.num_series} series, got {train_ends}.")
    series = np.repeat(np.arange(panel.num_series), panel.lengths)
    row = np.arange(len(panel.values)) - panel.offsets[series]
    used = (row < train_ends[series]) & ~np.isnan(panel.values)
    series, values = series[used], panel.values[used]
    counts = np.bincount(series, minlength=panel.num_series)
    # Divided by the largest before it is squared or summed: no overflow, and no underflow of small units.
    peaks = np.zeros(panel.num_series)
    np.maximum.at(peaks, series, np.abs(values))
    peaks[peaks == 0] = 1.0
    unit = values / peaks[series]
    divisors = np.maximum(counts, 1)
    mean = np.bincount(series, unit, panel.num_series) / divisors
    # A second pass takes away the rounding of the first sum.
    mean += np.bincount(series, unit - mean[series], panel.num_series) / divisors
    variance = np.bincount(series, (unit - mean[series]) ** 2, panel.num_series) / divisors
    mean, scale = mean * peaks, np.sqrt(variance) * peaks
    # Exact: a constant series is all 1 or all -1 once divided by its largest, so no rounding is left in its deviation.
    constant = (counts > 0) & (scale == 0)
    scale[scale == 0] = 1.0
    for flags, what in ((constant, "constant"), (counts == 0, "without a known value")):
        names = [panel.series_ids[i] for i in np.flatnonzero(flags)]
        if names:
            notify(f"{len(names)} series {what} in the training part, scaled by 1: {_name_some(names)}.")
    return mean, scale


def standardise(
    panel: Panel, mean: Float64[np.ndarray, "num_series"], scale: Float64[np.ndarray, "num_series"]
) -> Float32[np.ndarray, "total"]:
    """(value - mean) / scale of each series, computed in float64 before it is rounded; NaN stays NaN."""
    lengths = panel.lengths
    scaled: np.ndarray = (panel.values - np.repeat(mean, lengths)) / np.repeat(scale, lengths)
    return scaled.astype(np.float32)


def _name_some(names: Sequence[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(repr(name) for name in names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _no_window_message(
    boundaries: Int64[np.ndarray, "num_series 2"],
    series_ids: Sequence[str],
    context: int,
    horizon: int,
    min_context: int,
    part: str,
) -> str:
    if len(series_ids) == 0:
        return f"The {part} part has no window: the panel has no series."
    sizes = boundaries[:, 1] - boundaries[:, 0]
    longest = int(sizes.argmax())
    if sizes[longest] < horizon:
        return (
            f"The horizon is {horizon} steps, but the {part} part has {sizes[longest]} at most (series "
            f"{series_ids[longest]!r}). Shorten the horizon or give the {part} part more rows."
        )
    longest = int(boundaries[:, 1].argmax())
    return (
        f"The {part} part has no window: one needs {min_context} steps of history and {horizon} to forecast, "
        f"{min_context + horizon} in all, and the longest series ({series_ids[longest]!r}) has "
        f"{boundaries[longest, 1]} rows up to the end of the {part} part. Shorten context ({context}) or horizon, "
        f"or set min_context lower."
    )
