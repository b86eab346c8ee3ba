"""What is written as a file is read back as the same panel, whatever the layout, the order of rows and the names."""

import csv
import datetime
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.panels import table as panel_table
from data.panels.panel import Panel
from data.panels.reading import PanelFileConfig, read_panel

SEATTLE = Path(__file__).parents[3] / "data" / "demo" / "seattle_weather.csv"

Read = Callable[..., tuple[Panel, list[str]]]

# Reading writes to disk, whose speed varies.
on_disk = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

IDS = st.one_of(
    st.sampled_from(["NA", "nan", "001", "1", "a,b", 'quo"te', "two\nlines", " padded ", "null", "ds", "-1e5", "é"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6),
)
VALUES = st.one_of(st.just(np.nan), st.floats(allow_infinity=False, allow_nan=False))
ALIASES = ["min", "15min", "h", "D", "2D", "B", "W-SUN", "MS", "ME", "QS-JAN", "YE-DEC"]
DATE_FORMS: list[Callable[[datetime.datetime], str]] = [
    lambda date: date.isoformat(),
    lambda date: date.isoformat(sep=" "),
    lambda date: date.isoformat(timespec="milliseconds"),
    lambda date: f"{date:%Y-%m-%dT%H:%M}",
    lambda date: f"{date:%Y/%m/%d %H:%M}",
    lambda date: f"{date.year}/{date.month}/{date.day} {date.hour}:{date.minute:02}",
    lambda date: f"{date.year}-{date.month}-{date.day} {date.hour}:{date.minute:02}:00",
]


@st.composite
def panels(draw: st.DrawFn, *, aligned: bool = False) -> Panel:
    alias = draw(st.sampled_from(ALIASES))
    dates = pd.date_range(f"{draw(st.integers(1960, 2040))}-01-05", periods=30, freq=alias).to_numpy()
    ids = draw(st.lists(IDS, min_size=1, max_size=5, unique_by=lambda name: name.strip() if aligned else name))
    if aligned:
        ids = [name.strip() for name in ids]
        ids = [name for name in ids if name and name.lower() not in ("ds", "date")] or ["only"]
    length = draw(st.integers(1, 20))
    spans = [(0, length) if aligned else (draw(st.integers(0, 10)), draw(st.integers(1, 20))) for _ in ids]
    series = [np.array(draw(st.lists(VALUES, min_size=length, max_size=length))) for _, length in spans]
    return Panel(
        series_ids=ids,
        values=np.concatenate(series),
        offsets=np.concatenate([[0], np.cumsum([length for _, length in spans])]),
        timestamps=np.concatenate([dates[first : first + length] for first, length in spans]).astype("datetime64[s]"),
        frequency=alias,
    )


def long_rows(panel: Panel) -> list[tuple[str, datetime.datetime, float]]:
    ids = np.repeat(np.array(panel.series_ids, object), panel.lengths)
    return list(zip(ids.tolist(), panel.timestamps.tolist(), panel.values.tolist(), strict=True))


def write_csv(path: Path, rows: list[list[str]], *, newline: str = "\n", blank_lines: bool = False) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=newline)
    for row in rows:
        writer.writerow(row)
        if blank_lines:
            out.write(newline)
    path.write_bytes(out.getvalue().encode())


def read_back(folder: str, name: str, **config: Any) -> tuple[Panel, list[str]]:
    said: list[str] = []
    path = Path(folder) / name
    return read_panel(path, PanelFileConfig(**config), cache_dir=f"{folder}/cache", notify=said.append), said


def assert_same(panel: Panel, other: Panel, *, any_order: bool = False) -> None:
    assert panel.frequency == other.frequency
    if not any_order:
        assert panel.series_ids == other.series_ids
    assert sorted(panel.series_ids) == sorted(other.series_ids)
    for i, name in enumerate(panel.series_ids):
        j = other.series_ids.index(name)
        # Equal to the last bit: a decimal text is rounded once, correctly.
        np.testing.assert_array_equal(panel.series(i), other.series(j))
        np.testing.assert_array_equal(panel.series_timestamps(i), other.series_timestamps(j))


@on_disk
@given(
    panel=panels(),
    form=st.sampled_from(DATE_FORMS),
    missing=st.sampled_from(["", "NaN", "NA", "null", " nan "]),
    newline=st.sampled_from(["\n", "\r\n"]),
    blank_lines=st.booleans(),
    shuffle=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_a_long_csv_reads_back(
    panel: Panel,
    form: Callable[[datetime.datetime], str],
    missing: str,
    newline: str,
    blank_lines: bool,
    shuffle: bool,
    order: random.Random,
) -> None:
    rows = [[name, form(date), missing if np.isnan(y) else repr(y)] for name, date, y in long_rows(panel)]
    if shuffle:
        order.shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "p.csv", [["unique_id", "ds", "y"], *rows], newline=newline, blank_lines=blank_lines)
        read, said = read_back(folder, "p.csv", frequency=panel.frequency)
        again, _ = read_back(folder, "p.csv", frequency=panel.frequency)
    assert_same(panel, read, any_order=shuffle)
    assert_same(read, again)
    assert len(said) <= (1 if shuffle else 0)


@on_disk
@given(
    panel=panels(),
    dates=st.sampled_from([pa.timestamp("s"), pa.timestamp("us"), pa.large_string(), pa.timestamp("ms", "UTC")]),
    ids=st.sampled_from([pa.string(), pa.large_string(), "category"]),
    shuffle=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_a_long_parquet_reads_back(panel: Panel, dates: Any, ids: Any, shuffle: bool, order: random.Random) -> None:
    rows = long_rows(panel)
    if shuffle:
        order.shuffle(rows)
    names, stamps, values = (list(column) for column in zip(*rows, strict=True))
    column = pa.array([date.isoformat() for date in stamps]) if dates == pa.large_string() else pa.array(stamps)
    named = pa.array(names).dictionary_encode() if ids == "category" else pa.array(names, ids)
    table = pa.table(
        {"y": pa.array(values, from_pandas=order.random() < 0.5), "ds": column.cast(dates), "unique_id": named}
    )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/p.parquet")
        read, _ = read_back(folder, "p.parquet", frequency=panel.frequency)
    assert_same(panel, read, any_order=shuffle)


@on_disk
@given(panel=panels(aligned=True), shuffle=st.booleans(), order=st.randoms(use_true_random=False))
def test_a_wide_csv_reads_back(panel: Panel, shuffle: bool, order: random.Random) -> None:
    columns = [panel.series(i).tolist() for i in range(panel.num_series)]
    dates = panel.series_timestamps(0).tolist()
    rows = [
        [date.isoformat(), *("" if np.isnan(column[i]) else repr(column[i]) for column in columns)]
        for i, date in enumerate(dates)
    ]
    if shuffle:
        order.shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "p.csv", [["date", *panel.series_ids], *rows])
        read, _ = read_back(folder, "p.csv", frequency=panel.frequency, layout="wide")
    assert_same(panel, read)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a text as a CSV file and reads it."""

    def read_text(text: str, **config: Any) -> tuple[Panel, list[str]]:
        (tmp_path / "p.csv").write_bytes(text.encode())
        return read_back(str(tmp_path), "p.csv", **config)

    return read_text


LONG = "unique_id,ds,y\na,2012-01-01,1\na,2012-01-02,2\na,2012-01-03,3\n"
WIDE = "date,x,note,z\n2012-01-01,1,sun,4\n2012-01-02,,rain,5\n2012-01-03,3,,6\n"


class TestLayout:
    def test_the_embedded_weather_is_four_daily_series(self, tmp_path: Path) -> None:
        said: list[str] = []
        panel = read_panel(SEATTLE, PanelFileConfig(), cache_dir=str(tmp_path), notify=said.append)
        assert panel.series_ids == ["precipitation", "temp_max", "temp_min", "wind"]
        assert panel.frequency == "D"
        assert panel.lengths.tolist() == [1461] * 4
        assert panel.series(1)[[0, -1]].tolist() == [12.8, 5.6]
        assert len(said) == 1
        assert "'weather'" in said[0]

    def test_text_columns_of_a_wide_file_are_left_out_and_named(self, read: Read) -> None:
        panel, said = read(WIDE)
        assert panel.series_ids == ["x", "z"]
        np.testing.assert_array_equal(panel.values, [1, np.nan, 3, 4, 5, 6])
        assert len(said) == 1
        assert "'note'" in said[0]

    def test_columns_choose_the_series_and_their_order(self, read: Read) -> None:
        panel, said = read(WIDE, columns=["z", "x"])
        assert panel.series_ids == ["z", "x"]
        assert said == []

    @pytest.mark.parametrize("header", ["ds", "Date", "DATETIME", "Timestamp", "when"])
    def test_the_date_column_of_a_wide_file_is_found_by_name_or_as_the_first(self, read: Read, header: str) -> None:
        panel, _ = read(WIDE.replace("date", header, 1))
        assert panel.series_ids == ["x", "z"]

    def test_the_date_column_of_a_wide_file_may_stand_anywhere(self, read: Read) -> None:
        panel, _ = read("x,Date\n1,2012-01-01\n2,2012-01-02\n3,2012-01-03\n")
        assert panel.series_ids == ["x"]
        panel, _ = read("date,x,t\n7,1,2012-01-01\n8,2,2012-01-02\n9,3,2012-01-03\n", date_column="t")
        assert panel.series_ids == ["date", "x"]

    def test_a_column_without_a_name_is_no_series(self, read: Read) -> None:
        """DataFrame.to_csv writes its row count so without index=False."""
        panel, said = read(",date,x\n0,2012-01-01,1\n1,2012-01-02,2\n2,2012-01-03,3\n")
        assert panel.series_ids == ["x"]
        assert "Unnamed: 0" in said[0]

    def test_a_column_with_no_value_at_all_is_a_series(self, read: Read) -> None:
        panel, _ = read("date,x,empty\n2012-01-01,1,\n2012-01-02,2,NaN\n2012-01-03,3,\n")
        assert panel.series_ids == ["x", "empty"]
        assert np.isnan(panel.series(1)).all()

    def test_a_misspelt_value_column_does_not_make_a_long_file_wide(self, read: Read) -> None:
        with pytest.raises(ValueError, match=r"'y' is missing.*There are: 'yy'"):
            read(LONG.replace("y\n", "yy\n", 1))
        with pytest.raises(ValueError, match="'sale' is missing"):
            read(LONG.replace("unique_id,ds,y", "shop,ds,sales"), id_column="shop", value_column="sale")

    def test_a_misspelt_id_column_does_not_make_a_long_file_wide(self, read: Read) -> None:
        with pytest.raises(ValueError, match=r"'shops' is missing.*There are: 'shop'"):
            read(LONG.replace("unique_id,ds,y", "shop,ds,sales"), id_column="shops", value_column="sales")
        with pytest.raises(ValueError, match="'unique_id' is missing"):
            read(LONG.replace("unique_id,ds,y", "shop,ds,sales"), value_column="sales")

    def test_other_names_are_read_as_told(self, read: Read) -> None:
        panel, _ = read(
            LONG.replace("unique_id,ds,y", "shop,day,sales"), id_column="shop", date_column="day", value_column="sales"
        )
        assert panel.series_ids == ["a"]

    def test_whole_number_ids_of_parquet_become_text(self, tmp_path: Path) -> None:
        dates = pd.date_range("2012-01-01", periods=3).date
        pd.DataFrame({"unique_id": [7] * 3, "ds": dates, "y": [1, 2, 3]}).to_parquet(tmp_path / "p.parquet")
        panel, _ = read_back(str(tmp_path), "p.parquet")
        assert panel.series_ids == ["7"]
        assert panel.values.tolist() == [1.0, 2.0, 3.0]

    def test_a_changed_file_is_read_anew(self, read: Read) -> None:
        """The cache must not answer for a file that has changed."""
        first, _ = read(LONG)
        second, _ = read(LONG.replace(",3\n", ",30\n"))
        assert (first.values[-1], second.values[-1]) == (3.0, 30.0)

    @pytest.mark.parametrize("name", ["a[1].csv", "a*b.csv", "a b.csv", "q?.csv", "A.CSV"])
    def test_a_path_is_a_path_and_no_pattern(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(LONG)
        panel, _ = read_back(str(tmp_path), name)
        assert panel.values.tolist() == [1.0, 2.0, 3.0]

    def test_a_byte_order_mark_is_no_part_of_the_header(self, read: Read) -> None:
        panel, _ = read("\ufeff" + LONG)
        assert panel.series_ids == ["a"]


class TestChunks:
    """A large file comes in pieces, and each numbers its series and finds its types by itself."""

    ROWS: ClassVar = [(f"s{i % 7}", f"2012-01-{1 + i // 7:02}", "" if i % 5 == 0 else str(i)) for i in range(70)]

    def test_a_csv_read_in_pieces(self, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "unique_id,ds,y\n" + "".join(",".join(row) + "\n" for row in self.ROWS)
        whole, _ = read(text, frequency="D")
        monkeypatch.setattr(panel_table, "_ROWS_A_CHUNK", 9)
        pieces, _ = read(text, frequency="D")
        assert_same(whole, pieces)

    def test_a_parquet_of_several_row_groups(self, tmp_path: Path) -> None:
        names, dates, values = (list(column) for column in zip(*self.ROWS, strict=True))
        table = pa.table({"unique_id": names, "ds": dates, "y": values})
        for name, size in (("whole.parquet", 70), ("p.parquet", 9)):
            pq.write_table(table, tmp_path / name, row_group_size=size)
        pieces = panel_table.open_table(str(tmp_path / "p.parquet"), cache_dir=str(tmp_path)).arrow
        assert pieces.column("ds").num_chunks > 1
        assert_same(read_back(str(tmp_path), "whole.parquet")[0], read_back(str(tmp_path), "p.parquet")[0])


class TestDates:
    @pytest.mark.parametrize(
        ("text", "form"),
        [("31/12/2012 {h:02}:30", "%d/%m/%Y %H:%M"), ("12/31/2012 {h:02}h30", "%m/%d/%Y %Hh%M")],
    )
    def test_any_form_is_read_when_it_is_told(self, read: Read, text: str, form: str) -> None:
        rows = "".join(f"a,{text.format(h=h)},1\n" for h in range(3))
        panel, _ = read(f"unique_id,ds,y\n{rows}", date_format=form)
        assert str(panel.timestamps[0]) == "2012-12-31T00:30:00"
        assert panel.frequency == "h"

    def test_years_are_read_when_told(self, read: Read) -> None:
        panel, _ = read("date,x\n2010,1\n2011,2\n2012,3\n", date_format="%Y")
        assert panel.frequency == "YS-JAN"

    @pytest.mark.parametrize("texts", [("2012-01", "2012-02", "2012-03"), ("2012/1", "2012/2", "2012/3")])
    def test_a_month_is_its_first_day(self, read: Read, texts: tuple[str, ...]) -> None:
        panel, _ = read("date,x\n" + "".join(f"{text},1\n" for text in texts))
        assert panel.frequency == "MS"
        assert str(panel.timestamps[2]) == "2012-03-01T00:00:00"

    def test_the_basic_form_of_iso_8601_is_read(self, read: Read) -> None:
        panel, _ = read("date,x\n20120101,1\n20120102,2\n20120103,3\n")
        assert str(panel.timestamps[2]) == "2012-01-03T00:00:00"

    @pytest.mark.parametrize("config", [{}, {"date_format": "%Y-%m-%dT%H:%M:%S%z"}])
    def test_time_zones_become_utc_and_that_is_said_once(self, read: Read, config: dict[str, str]) -> None:
        """Over the change to summer time, local hours jump; UTC does not."""
        stamps = ["2012-03-25T01:00:00+0100", "2012-03-25T03:00:00+0200", "2012-03-25T04:00:00+0200"]
        panel, said = read("date,x\n" + "".join(f"{stamp},1\n" for stamp in stamps), **config)
        assert panel.timestamps.astype(str).tolist() == [f"2012-03-25T0{h}:00:00" for h in range(3)]
        assert len(said) == 1
        assert "UTC" in said[0]

    def test_zoned_timestamps_of_parquet_become_utc_and_that_is_said(self, tmp_path: Path) -> None:
        dates = pd.date_range("2012-03-25T00:00", periods=3, freq="h", tz="Europe/Berlin")
        pd.DataFrame({"ds": dates, "x": [1, 2, 3]}).to_parquet(tmp_path / "p.parquet")
        panel, said = read_back(str(tmp_path), "p.parquet")
        assert str(panel.timestamps[0]) == "2012-03-24T23:00:00"
        assert len(said) == 1
        assert "Europe/Berlin" in said[0]


class TestOrder:
    def test_series_that_take_turns_are_in_order(self, read: Read) -> None:
        rows = [f"{name},2012-01-0{day},{day}\n" for day in (1, 2, 3) for name in ("b", "a")]
        panel, said = read("unique_id,ds,y\n" + "".join(rows))
        assert panel.series_ids == ["b", "a"]
        assert panel.values.tolist() == [1, 2, 3, 1, 2, 3]
        assert said == []

    def test_sorting_is_said_once(self, read: Read) -> None:
        rows = [f"{name},2012-01-0{day},{day}\n" for day in (3, 1, 2) for name in ("b", "a")]
        panel, said = read("unique_id,ds,y\n" + "".join(rows))
        assert panel.values.tolist() == [1, 2, 3, 1, 2, 3]
        assert len(said) == 1
        assert "sorted" in said[0]


class TestGaps:
    GAPPY = (
        "unique_id,ds,y\na,2012-01-01,1\na,2012-01-02,\na,2012-01-05,5\na,2012-01-06,6\n"
        "b,2012-02-01,7\nb,2012-02-02,8\nb,2012-02-03,9\nb,2012-02-04,10\n"
    )

    @pytest.mark.parametrize(
        ("fill", "filled"),
        [
            ("missing", [1, np.nan, np.nan, np.nan, 5, 6]),
            ("zero", [1, np.nan, 0, 0, 5, 6]),
            ("previous", [1, np.nan, np.nan, np.nan, 5, 6]),
        ],
    )
    def test_missing_dates_are_filled_as_told_and_known_rows_untouched(
        self, read: Read, fill: str, filled: list[float]
    ) -> None:
        panel, said = read(self.GAPPY, fill=fill)
        np.testing.assert_array_equal(panel.series(0), filled)
        assert panel.series(1).tolist() == [7, 8, 9, 10]
        assert np.all(np.diff(panel.series_timestamps(0)) == np.timedelta64(1, "D"))
        assert len(said) == 1
        assert "2 dates are missing in 1 series" in said[0]

    def test_previous_repeats_the_row_before(self, read: Read) -> None:
        panel, _ = read(self.GAPPY.replace("2012-01-02,\n", "2012-01-02,2\n"), fill="previous")
        assert panel.series(0).tolist() == [1, 2, 2, 2, 5, 6]

    @pytest.mark.parametrize("alias", ["15min", "h", "B", "W-MON", "MS", "2MS", "QE-DEC"])
    def test_filled_calendars_are_those_of_the_frequency(self, tmp_path: Path, alias: str) -> None:
        dates = pd.date_range("2011-11-07", periods=12, freq=alias)
        frame = pd.DataFrame({"ds": dates, "x": np.arange(12.0)}).drop(index=[4, 5, 8])
        frame.to_csv(tmp_path / "p.csv", index=False)
        panel, _ = read_back(str(tmp_path), "p.csv", fill="missing", frequency=alias)
        np.testing.assert_array_equal(panel.timestamps, dates.to_numpy().astype("datetime64[s]"))
        assert np.flatnonzero(np.isnan(panel.values)).tolist() == [4, 5, 8]

    def test_every_column_of_a_wide_file_is_filled(self, read: Read) -> None:
        text = "date,x,z\n2012-01-01,1,5\n2012-01-02,2,6\n2012-01-03,3,7\n2012-01-05,4,8\n"
        panel, _ = read(text, fill="previous")
        assert panel.series(0).tolist() == [1, 2, 3, 3, 4]
        assert panel.series(1).tolist() == [5, 6, 7, 7, 8]
        np.testing.assert_array_equal(panel.series_timestamps(0), panel.series_timestamps(1))
