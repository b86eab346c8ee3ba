"""A panel keeps its series apart and knows what dates follow."""

import dataclasses

import numpy as np
import pytest

from data.panels.panel import Panel


@pytest.fixture
def panel() -> Panel:
    days = np.datetime64("2012-02-27", "s") + np.arange(5) * np.timedelta64(86_400, "s")
    return Panel(
        series_ids=["a", "b"],
        values=np.array([1.0, 2.0, np.nan, 4.0, 5.0]),
        offsets=np.array([0, 2, 5]),
        timestamps=np.concatenate([days[:2], days[:3]]),
        frequency="D",
    )


def test_series_are_views_of_their_own_rows(panel: Panel) -> None:
    assert panel.num_series == 2
    assert panel.lengths.tolist() == [2, 3]
    np.testing.assert_array_equal(panel.series(1), [np.nan, 4.0, 5.0])
    assert np.shares_memory(panel.series(1), panel.values)
    assert str(panel.series_timestamps(1)[-1]) == "2012-02-29T00:00:00"


def test_the_future_begins_after_each_series_own_end_and_knows_leap_years(panel: Panel) -> None:
    assert panel.future_timestamps(0, 2).tolist() == [d.item() for d in panel.timestamps[4:5]] + [
        np.datetime64("2012-03-01", "s").item()
    ]
    assert str(panel.future_timestamps(1, 1)[0]) == "2012-03-01T00:00:00"
    assert panel.future_timestamps(1, 3).dtype == np.dtype("datetime64[s]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 2])}, "offsets must start at 0"),
        ({"offsets": np.array([1, 2, 5])}, "offsets must start at 0"),
        ({"offsets": np.array([0, 2, 4])}, "as long as its last offset"),
        ({"offsets": np.array([0, 5, 5])}, "'b' has none"),
        ({"values": np.zeros(5, np.float32)}, "values must be one flat array of float64"),
        ({"series_ids": ["a", "a"]}, "must differ"),
        ({"frequency": "fortnight"}, "'fortnight'"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(panel: Panel, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(panel, **change)


def test_a_last_date_off_the_calendar_has_no_future(panel: Panel) -> None:
    monthly = dataclasses.replace(panel, frequency="MS")
    with pytest.raises(ValueError, match=r"2012-02-28.*'MS'.*2012-03-01"):
        monthly.future_timestamps(0, 3)
