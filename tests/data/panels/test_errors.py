"""Every way a file can be wrong is said with the file, the line, the text and what to change (contract 8)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.panels.reading import PanelFileConfig, read_panel

HEAD = "unique_id,ds,y\n"
GOOD = "a,2012-01-01,1\na,2012-01-02,2\na,2012-01-03,3\n"

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Reads a text as a CSV file, or a data frame as a Parquet file, and returns the message of its refusal."""

    def read(content: str | bytes | pd.DataFrame | None, name: str = "p.csv", **config: Any) -> str:
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path, index=False)
        elif content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(ValueError) as error:  # noqa: PT011  the caller looks at the message
            read_panel(path, PanelFileConfig(**config), cache_dir=str(tmp_path / "cache"), notify=lambda said: None)
        message = str(error.value)
        assert name in message
        # The message stands alone: nothing of the libraries in between.
        assert "Traceback" not in message
        assert "DatasetGenerationError" not in message
        return message

    return read


def holds(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


class TestFile:
    def test_a_missing_file_names_those_like_it(self, refused: Refused, tmp_path: Path) -> None:
        for name in ("sales_2012.csv", "notes.txt", "weather.parquet"):
            (tmp_path / name).write_text("x")
        message = refused(None, "sales_2021.csv")
        holds(message, "does not exist", "sales_2012.csv")
        assert "notes.txt" not in message
        holds(refused(None, "zzz.csv"), "sales_2012.csv, weather.parquet")

    def test_a_missing_folder_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="neither does its folder"):
            read_panel(tmp_path / "no" / "p.csv", PanelFileConfig(), cache_dir=str(tmp_path), notify=print)

    def test_a_folder_is_no_file(self, refused: Refused, tmp_path: Path) -> None:
        (tmp_path / "d.csv").mkdir()
        holds(refused(None, "d.csv"), "is a folder")

    @pytest.mark.parametrize("name", ["p.xlsx", "p.csv.gz", "p"])
    def test_an_unknown_ending_names_the_known_ones(self, refused: Refused, name: str) -> None:
        holds(refused(HEAD + GOOD, name), ".csv", ".parquet", repr(Path(name).suffix))

    @pytest.mark.parametrize("content", ["", "\n\n", "\n  \n"])
    def test_an_empty_file(self, refused: Refused, content: str) -> None:
        holds(refused(content), "is empty")

    def test_a_header_alone(self, refused: Refused) -> None:
        holds(refused(HEAD), "no rows", "unique_id,ds,y".replace(",", ", "))
        holds(refused(pd.DataFrame({"unique_id": [], "ds": [], "y": []}), "p.parquet"), "no rows")

    def test_what_is_no_parquet(self, refused: Refused) -> None:
        holds(refused(HEAD + GOOD, "p.parquet"), "is no Parquet file")

    def test_another_encoding(self, refused: Refused) -> None:
        holds(refused((HEAD + GOOD).encode() + "é,2012-01-01,1\n".encode("latin-1")), "line 5", "UTF-8")
        holds(refused("é,ds,y\n".encode("latin-1") + GOOD.encode()), "line 1", "UTF-8")

    def test_rows_wider_than_the_header(self, refused: Refused) -> None:
        """Left to pandas, a file whose rows all end in a comma has every column moved aside without a word."""
        holds(refused(HEAD + GOOD.replace("\n", ",\n")), "line 2", "4 fields under a header of 3")
        holds(refused(HEAD + "\n" + GOOD + "a,2012-01-04,1,5\n"), "line 6", "4 fields under a header of 3")

    def test_a_quote_that_never_ends(self, refused: Refused) -> None:
        holds(refused(HEAD + GOOD + 'a,"2012-01-04,4\n'), "could not be read")

    def test_a_column_named_twice(self, refused: Refused) -> None:
        holds(refused("unique_id,ds,y,y\na,2012-01-01,1,2\n"), "'y'", "twice")


class TestColumns:
    def test_a_missing_column_names_the_nearest_first(self, refused: Refused) -> None:
        message = refused("unique_id,note,date,value\na,x,2012-01-01,1\n", date_column="day")
        holds(message, "'day' is missing", "There are: 'date', 'unique_id'", "date_column")
        message = refused("unique_id,ds,value\na,2012-01-01,1\n", value_column="values")
        holds(message, "'values' is missing", "There are: 'value', ", "value_column")
        holds(refused("date,x\n2012-01-01,1\n", layout="long"), "'unique_id' is missing", "id_column")
        holds(refused("date,x\n2012-01-01,1\n", columns=["x", "z"]), "'z' is missing", "columns")

    def test_another_separator_is_recognised(self, refused: Refused) -> None:
        holds(refused((HEAD + GOOD).replace(",", ";"), layout="long"), "'unique_id' is missing", "commas")

    def test_no_column_of_numbers(self, refused: Refused) -> None:
        holds(refused("date,note\n2012-01-01,sun\n"), "no column of numbers", "'note'")

    def test_the_date_column_is_no_series(self, refused: Refused) -> None:
        holds(refused("date,x\n2012-01-01,1\n", columns=["date", "x"]), "'date', which is the column of dates")

    def test_types_of_parquet_that_cannot_be(self, refused: Refused) -> None:
        dates = pd.date_range("2012-01-01", periods=3)
        frame = pd.DataFrame({"unique_id": ["a"] * 3, "ds": dates, "y": [1.0, 2.0, 3.0]})
        holds(refused(frame.assign(ds=[1, 2, 3]), "1.parquet"), "'ds' holds int64", "timestamps or text")
        holds(refused(frame.assign(unique_id=[0.5] * 3), "2.parquet"), "'unique_id' holds double")
        holds(refused(frame.assign(y=[True] * 3), "3.parquet"), "'y' holds bool")

    def test_an_empty_id(self, refused: Refused) -> None:
        holds(refused(HEAD + GOOD + "\n,2012-01-04,1\n"), "line 6", "'unique_id' is empty")
        frame = pd.DataFrame({"unique_id": ["a", None], "ds": ["2012-01-01"] * 2, "y": [1, 2]})
        holds(refused(frame, "p.parquet"), "row 2", "'unique_id' is empty")


class TestSettings:
    @pytest.mark.parametrize(
        ("config", "parts"),
        [
            ({"layout": "tall"}, ["layout is 'tall'", "wide"]),
            ({"fill": "mean"}, ["fill is 'mean'", "previous"]),
            ({"frequency": "H"}, ["frequency is 'H'", "h"]),
            ({"layout": "long", "columns": ["x"]}, ["columns (x)", "layout: wide"]),
            ({"layout": "wide", "id_column": "shop"}, ["id_column ('shop')", "layout: long"]),
            ({"layout": "wide", "value_column": "v"}, ["value_column ('v')", "layout: long"]),
            ({"columns": []}, ["empty list"]),
            ({"columns": ["x", "x"]}, ["twice"]),
        ],
    )
    def test_a_setting_that_cannot_be_or_does_nothing(self, config: dict[str, Any], parts: list[str]) -> None:
        with pytest.raises(ValueError) as error:  # noqa: PT011  holds() looks at the message
            PanelFileConfig(**config)
        holds(str(error.value), *parts)

    def test_columns_for_a_file_that_turns_out_long(self, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text(HEAD + GOOD)
        with pytest.raises(ValueError, match=r"columns \(y\).*layout is long"):
            read_panel(tmp_path / "p.csv", PanelFileConfig(columns=["y"]), cache_dir=str(tmp_path), notify=print)

    def test_a_date_format_for_real_timestamps(self, refused: Refused) -> None:
        frame = pd.DataFrame({"ds": pd.date_range("2012-01-01", periods=3), "x": [1, 2, 3]})
        holds(refused(frame, "p.parquet", date_format="%Y"), "real timestamps", "date_format ('%Y') does nothing")

    def test_a_date_format_without_a_field_or_with_a_wrong_one(self, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text(HEAD + GOOD)
        for form in ("mixed", "%Q"):
            config = PanelFileConfig(date_format=form)
            with pytest.raises(ValueError, match=f"date_format is '{form}'"):
                read_panel(tmp_path / "p.csv", config, cache_dir=str(tmp_path), notify=print)


class TestDates:
    @pytest.mark.parametrize("text", ["2013-02-30", "tomorrow", "2012-1-1-1", "2012-01-01 25:00", "12", "20121301"])
    def test_what_is_no_date_is_shown_with_its_line(self, refused: Refused, text: str) -> None:
        holds(refused(f"{HEAD}{GOOD}a,{text},4\n"), f"line 5: 'ds' is '{text}', which is no date", "date_format")

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        before=st.lists(st.sampled_from(["row", "blank", "spaces", "quoted", "quoted blank"]), max_size=8),
        newline=st.sampled_from(["\n", "\r\n"]),
        after=st.integers(0, 3),
    )
    def test_the_line_is_right_whatever_stands_before(
        self, tmp_path: Path, before: list[str], newline: str, after: int
    ) -> None:
        texts = {
            "row": "a,2012-01-01,1",
            "blank": "",
            "spaces": "  ",
            "quoted": f'"two{newline}lines",2012-01-01,1',
            "quoted blank": f'"a{newline}{newline}b, ""c""",2012-01-01,1',
        }
        text = newline.join(["unique_id,ds,y", *(texts[kind] for kind in before)]) + newline
        line = text.count("\n") + 1
        (tmp_path / "p.csv").write_bytes((text + newline.join(["a,bad,1"] + ["a,2012-01-02,1"] * after)).encode())
        with pytest.raises(ValueError, match=rf"line {line}: 'ds' is 'bad'"):
            read_panel(tmp_path / "p.csv", PanelFileConfig(), cache_dir=str(tmp_path / "c"), notify=print)

    def test_day_or_month_first_is_not_guessed(self, refused: Refused) -> None:
        holds(refused(HEAD + "a,01/02/2012,1\n"), "line 2", "'01/02/2012'", "date_format", "%d/%m/%Y")
        holds(refused(HEAD + "a,1.2.12 00:00,1\n"), "line 2", "'1.2.12 00:00'", "date_format")

    def test_a_bare_number_is_not_guessed(self, refused: Refused) -> None:
        holds(refused(HEAD + "a,2012,1\n"), "'2012'", "date_format: '%Y'")

    def test_an_empty_date(self, refused: Refused) -> None:
        holds(refused(HEAD + GOOD + "b,,1\n"), "line 5: 'ds' is empty")
        frame = pd.DataFrame({"ds": [pd.Timestamp("2012-01-01"), pd.NaT], "x": [1, 2]})
        holds(refused(frame, "p.parquet"), "row 2: 'ds' is empty")

    def test_a_date_of_another_form_than_told(self, refused: Refused) -> None:
        text = HEAD + "a,01/02/2012,1\n\na,13/02/2012,1\n"
        holds(refused(text, date_format="%m/%d/%Y"), "line 4", "'13/02/2012'", "'%m/%d/%Y'")

    def test_zones_for_some_only(self, refused: Refused) -> None:
        text = HEAD + "a,2012-01-01T00:00Z,1\na,2012-01-01T01:00Z,1\na,2012-01-01T02:00,1\n"
        holds(refused(text), "lines 2 and 4", "only one of these dates has a time zone")
        holds(refused(text.replace("02:00,", "02:99,")), "line 4", "'2012-01-01T02:99', which is no date")

    def test_fractions_of_a_second(self, refused: Refused) -> None:
        holds(refused(HEAD + "a,2012-01-01T00:00:00.5,1\n"), "line 2", "00:00.5", "Fractions of a second")
        frame = pd.DataFrame({"ds": pd.date_range("2012-01-01", periods=3, freq="1500ms"), "x": [1, 2, 3]})
        holds(refused(frame, "p.parquet"), "row 2", "Fractions of a second")


class TestValues:
    @pytest.mark.parametrize("text", ["1.2x", "1 000", "-", "twelve", "0x10", "1e"])
    def test_what_is_no_number_is_shown_with_its_line(self, refused: Refused, text: str) -> None:
        holds(refused(f"{HEAD}{GOOD}\nb,2012-01-01,{text}\n"), f"line 6: 'y' is '{text}', which is no number")

    def test_a_typing_error_does_not_make_a_column_text(self, refused: Refused) -> None:
        """Left out as text, a whole series would be gone."""
        message = refused("date,x,z\n2012-01-01,1,1\n2012-01-02,1,2..5\n2012-01-03,1,3\n")
        holds(message, "line 3: 'z' is '2..5'", "columns")

    @pytest.mark.parametrize("text", ["inf", "-Infinity", "1e999"])
    def test_infinite_values(self, refused: Refused, text: str) -> None:
        holds(refused(f"{HEAD}{GOOD}a,2012-01-04,{text}\n"), "line 5", f"'{text}'", "infinite")

    def test_infinite_values_of_parquet(self, refused: Refused) -> None:
        frame = pd.DataFrame({"ds": pd.date_range("2012-01-01", periods=3), "x": [1, np.nan, np.inf]})
        holds(refused(frame, "p.parquet"), "row 3", "infinite")

    def test_text_values_of_parquet(self, refused: Refused, tmp_path: Path) -> None:
        pq.write_table(pa.table({"ds": ["2012-01-01", "2012-01-02"], "x": ["1", "1,5"]}), tmp_path / "p.parquet")
        holds(refused(None, "p.parquet"), "row 2", "'1,5'")


class TestCalendar:
    def test_a_repeated_date_names_both_lines(self, refused: Refused) -> None:
        text = HEAD + "b,2012-01-02,0\n" + GOOD + "\na,2012-01-02,9\n"
        holds(refused(text), "lines 4 and 7", "series 'a'", "2012-01-02 twice")
        holds(refused("date,x\n2012-01-01,1\n2012-01-02,1\n2012-01-01,1\n"), "lines 2 and 4", "2012-01-01 twice")

    def test_the_first_of_many_repeated_dates_in_the_file_is_named(self, refused: Refused) -> None:
        text = HEAD + GOOD.replace("a", "b") + GOOD + "a,2012-01-03,1\nb,2012-01-01,1\n"
        holds(refused(text), "lines 7 and 8", "series 'a'", "2 such rows")

    def test_a_gap_names_the_date_the_count_and_the_ways_out(self, refused: Refused) -> None:
        text = HEAD + GOOD + "a,2012-01-06,6\na,2012-01-07,7\na,2012-01-09,9\nb,2012-01-01,1\nb,2012-01-03,1\n"
        message = refused(text)
        holds(message, "line 4: after this row series 'a' has none for 2012-01-04", "4 dates are missing in 2 series")
        holds(message, "fill: missing", "previous", "zero")
        holds(
            refused("date,x\n2012-01-01,1\n2012-01-02,1\n2012-01-03,1\n2012-01-05,1\n"), "line 4", "1 date is missing"
        )

    def test_a_gap_in_a_calendar_of_months_and_of_business_days(self, refused: Refused) -> None:
        months = ["2012-01-01", "2012-02-01", "2012-03-01", "2012-05-01", "2012-06-01"]
        holds(refused("date,x\n" + "".join(f"{month},1\n" for month in months)), "none for 2012-04-01", "'MS'")
        days = ["2012-01-05", "2012-01-06", "2012-01-09", "2012-01-10", "2012-01-12", "2012-01-13"]
        holds(refused("date,x\n" + "".join(f"{day},1\n" for day in days)), "none for 2012-01-11", "'B'")

    def test_series_of_different_frequencies(self, refused: Refused) -> None:
        hours = "".join(f"a,2012-01-01T{hour:02},1\n" for hour in range(6))
        days = "".join(f"b,2012-01-0{day},1\n" for day in range(1, 5))
        holds(refused(HEAD + hours + days), "series 'b' steps by 1 day", "'h'", "one frequency")
        halves = "".join(f"b,2012-01-01T{hour:02}:{minute},1\n" for hour in range(2) for minute in ("00", "30"))
        holds(refused(HEAD + hours + halves), "line 9", "series 'b'", "2012-01-01T00:30:00", "30 minutes", "'h'")

    def test_dates_off_the_frequency_that_is_set(self, refused: Refused) -> None:
        holds(refused(HEAD + GOOD, frequency="MS"), "line 3", "2012-01-02", "frequency is set to 'MS'")
        holds(refused(HEAD + GOOD, frequency="h"), "series 'a' steps by 1 day", "frequency is set to 'h'")
        holds(refused(HEAD + GOOD, frequency="W-MON"), "line 2", "2012-01-01", "'W-MON'")

    def test_a_stray_date(self, refused: Refused) -> None:
        hours = "".join(f"a,2012-01-01T{hour:02},1\n" for hour in range(6))
        message = refused(HEAD + hours + "a,2012-01-01T06:17,1\na,2012-01-01T07:00,1\n")
        holds(message, "line 8", "2012-01-01T06:17:00", "'h'")

    @pytest.mark.parametrize("rows", [GOOD[:15], GOOD[:30]])
    def test_series_too_short_for_a_frequency(self, refused: Refused, rows: str) -> None:
        holds(refused(HEAD + rows), f"longest series has {rows.count(chr(10))} row", "Set data.file.frequency")

    def test_dates_that_follow_no_frequency(self, refused: Refused) -> None:
        message = refused("date,x\n2012-01-03,1\n2012-02-15,1\n2012-03-01,1\n2012-03-19,1\n")
        holds(message, "no known frequency", "2012-02-15", "Set data.file.frequency")
