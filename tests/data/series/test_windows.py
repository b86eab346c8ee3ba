"""Windows against a plain enumeration, series by series and step by step."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.panels.panel import Panel
from data.series.windows import WindowIndex, fit_standard_scaling, gather_windows, standardise
from data.splits import SplitByDate, SplitByFraction, SplitByRows, SplitConfig, split_boundaries

# A busy machine is no failure.
patient = settings(deadline=None)


def make_panel(series: list[np.ndarray], starts: list[int] | None = None) -> Panel:
    """Daily series that begin `starts` days after 2012-01-01."""
    starts = starts or [0] * len(series)
    days = [np.arange(start, start + len(values)) for start, values in zip(starts, series, strict=True)]
    return Panel(
        series_ids=[f"s{i}" for i in range(len(series))],
        values=np.concatenate(series).astype(np.float64),
        offsets=np.concatenate([[0], np.cumsum([len(values) for values in series])]).astype(np.int64),
        timestamps=np.datetime64("2012-01-01", "s") + np.concatenate(days) * np.timedelta64(86_400, "s"),
        frequency="D",
    )


def panel_of_lengths(*lengths: int) -> Panel:
    return make_panel([np.arange(length, dtype=np.float64) for length in lengths])


def parts(panel: Panel, split: SplitConfig) -> list[list[int]]:
    return split_boundaries(panel, split).tolist()


class TestSplits:
    def test_the_ett_benchmark_has_its_published_numbers_of_windows(self) -> None:
        panel = panel_of_lengths(17_420, 17_420)
        boundaries = split_boundaries(panel, SplitByRows(8640, 2880, 2880))
        counts = [
            WindowIndex(
                boundaries[:, part : part + 2], series_ids=panel.series_ids, context=96, horizon=96
            ).num_windows.tolist()
            for part in range(3)
        ]
        assert counts == [[8449, 8449], [2785, 2785], [2785, 2785]]

    def test_rows_are_cut_at_the_end_of_each_series(self) -> None:
        panel = panel_of_lengths(20, 12, 7, 3)
        assert parts(panel, SplitByRows(5, 5, 5)) == [[0, 5, 10, 15], [0, 5, 10, 12], [0, 5, 7, 7], [0, 3, 3, 3]]
        assert parts(panel, SplitByRows(5, 5)) == [[0, 5, 10, 20], [0, 5, 10, 12], [0, 5, 7, 7], [0, 3, 3, 3]]

    @patient
    @given(lengths=st.lists(st.integers(1, 5_000), min_size=1, max_size=5))
    def test_fractions_that_make_one_leave_no_row_out(self, lengths: list[int]) -> None:
        """The convention of the benchmarks: train and test rounded down, validation is the rest."""
        if max(lengths) < 2:
            lengths = [*lengths, 10]
        for length, (begin, train, validation, end) in zip(
            lengths, parts(panel_of_lengths(*lengths), SplitByFraction(0.7, 0.1, 0.2)), strict=True
        ):
            assert (begin, train, end) == (0, length * 7 // 10, length)
            assert end - validation == length // 5

    def test_a_fraction_that_gives_whole_rows_gives_all_of_them(self) -> None:
        """0.29 x 100 is 28.999999999999996 in floating point."""
        assert parts(panel_of_lengths(100), SplitByFraction(0.29, 0.0, 0.57)) == [[0, 29, 29, 86]]

    def test_dates_cut_every_series_at_the_same_day(self) -> None:
        panel = make_panel([np.zeros(31), np.zeros(10), np.zeros(5), np.zeros(20)], starts=[0, 5, 0, 25])
        split = SplitByDate("2012-01-11", "2012-01-21T00:00", "2012-01-29")
        assert parts(panel, split) == [[0, 10, 20, 28], [0, 5, 10, 10], [0, 5, 5, 5], [0, 0, 0, 3]]
        assert parts(panel, SplitByDate("2012-01-11", "2012-01-21"))[0] == [0, 10, 20, 31]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: SplitByRows(0, 1, 1), "train >= 1"),
            (lambda: SplitByRows(5, -1, 1), "5, -1, 1"),
            (lambda: SplitByFraction(0.8, 0.2, 0.1), r"sum 1\.1"),
            (lambda: SplitByFraction(0.0, 0.5, 0.5), "train > 0"),
            (lambda: SplitByDate("2012-13-01", "2012-02-01"), "validation_from is '2012-13-01'"),
            (lambda: SplitByDate("2012-02-01", "01/03/2012"), "test_from is '01/03/2012'"),
            (lambda: SplitByDate("2012-02-01", "2012-01-01"), "validation_from <= test_from"),
            (lambda: SplitByDate("2012-02-01", "2012-03-01", "2012-02-15"), "until"),
        ],
    )
    def test_splits_that_cannot_be_are_refused(self, make: Callable[[], SplitConfig], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make()

    def test_a_split_without_a_training_row_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"No series has a row to train on.*2012-01-01.*5 rows"):
            split_boundaries(panel_of_lengths(5, 3), SplitByDate("2011-01-01", "2011-02-01"))


@dataclass
class IndexCase:
    boundaries: np.ndarray
    context: int
    horizon: int
    stride: int
    min_context: int

    def windows(self) -> list[tuple[int, int]]:
        """By the definition: every origin of the part with enough history, whose horizon ends within the part."""
        found = []
        for series, (first, end) in enumerate(self.boundaries.tolist()):
            origin = max(first, self.min_context)
            while origin + self.horizon <= end:
                found.append((series, origin))
                origin += self.stride
        return found

    def index(self) -> WindowIndex:
        return WindowIndex(
            self.boundaries,
            series_ids=[f"s{i}" for i in range(len(self.boundaries))],
            context=self.context,
            horizon=self.horizon,
            stride=self.stride,
            min_context=self.min_context,
        )


@st.composite
def index_cases(draw: st.DrawFn) -> IndexCase:
    bounds = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted), min_size=1, max_size=6))
    context = draw(st.integers(1, 12))
    return IndexCase(
        np.array(bounds),
        context,
        draw(st.integers(1, 12)),
        draw(st.integers(1, 7)),
        draw(st.integers(1, context)),
    )


class TestWindowIndex:
    @patient
    @given(case=index_cases(), order=st.randoms(use_true_random=False))
    def test_every_window_is_addressed_once_and_no_other(self, case: IndexCase, order: random.Random) -> None:
        windows = case.windows()
        if not windows:
            with pytest.raises(ValueError, match=r"has no window|The horizon is"):
                case.index()
            return
        index = case.index()
        assert len(index) == len(windows)
        numbers = list(range(len(windows)))
        order.shuffle(numbers)
        series, origins = index.locate(np.array(numbers))
        assert list(zip(series.tolist(), origins.tolist(), strict=True)) == [windows[number] for number in numbers]
        with_windows = {series for series, _ in windows}
        assert index.left_out == [f"s{i}" for i in range(len(case.boundaries)) if i not in with_windows]
        lengths = index.context_lengths(origins)
        assert np.all((lengths >= case.min_context) & (lengths <= case.context) & (lengths <= origins))

    def test_targets_stay_within_the_part_and_contexts_reach_back(self) -> None:
        """No row of the test part is ever a training target; the first test target has its whole context."""
        boundaries = split_boundaries(panel_of_lengths(100), SplitByRows(50, 20, 30))
        common = {"series_ids": ["s"], "context": 30, "horizon": 10}
        for part in range(3):
            index = WindowIndex(boundaries[:, part : part + 2], **common)
            _, origins = index.locate(np.arange(len(index)))
            assert origins.min() == max(boundaries[0, part], 30)
            assert origins.max() + 10 == boundaries[0, part + 1]

    @pytest.mark.parametrize("number", [-1, 5])
    def test_a_number_beyond_the_windows_is_refused(self, number: int) -> None:
        index = WindowIndex(np.array([[0, 9]]), series_ids=["s"], context=3, horizon=2)
        assert len(index) == 5
        with pytest.raises(IndexError, match="0 to 4"):
            index.locate(np.array([0, number]))

    def test_a_horizon_longer_than_the_part_says_both_lengths(self) -> None:
        with pytest.raises(ValueError, match=r"horizon is 24 steps.*validation part has 20 at most \(series 'b'\)"):
            WindowIndex(np.array([[50, 60], [50, 70]]), series_ids=["a", "b"], context=5, horizon=24, part="validation")

    def test_too_little_history_everywhere_says_what_is_needed(self) -> None:
        with pytest.raises(ValueError, match=r"30 steps of history and 5 to forecast, 35 in all.*'b'.* has 12 rows"):
            WindowIndex(np.array([[0, 9], [0, 12]]), series_ids=["a", "b"], context=30, horizon=5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"context": 0}, "context must be at least 1"),
            ({"horizon": 0}, "horizon must be at least 1"),
            ({"stride": 0}, "stride must be at least 1"),
            ({"min_context": 0}, "min_context must be at least 1"),
            ({"min_context": 9}, r"min_context \(9\) must not be above context \(3\)"),
            ({"series_ids": ["s", "t"]}, "2 series"),
        ],
    )
    def test_sizes_that_cannot_be_are_refused(self, change: dict[str, object], message: str) -> None:
        settings = {"series_ids": ["s"], "context": 3, "horizon": 2} | change
        with pytest.raises(ValueError, match=message):
            WindowIndex(np.array([[0, 9]]), **settings)


GatherCase = tuple[np.ndarray, np.ndarray, np.ndarray, int]


@st.composite
def gather_cases(draw: st.DrawFn) -> GatherCase:
    total = draw(st.integers(1, 40))
    values = np.array(
        draw(st.lists(st.one_of(st.just(np.nan), st.floats(-100, 100, width=32)), min_size=total, max_size=total)),
        draw(st.sampled_from([np.float32, np.float64])),
    )
    starts = np.array(draw(st.lists(st.integers(0, total), min_size=1, max_size=8)))
    lengths = np.array([draw(st.integers(0, total - start)) for start in starts.tolist()])
    return values, starts, lengths, int(lengths.max()) + draw(st.integers(0, 20)) or 1


class TestGather:
    @patient
    @given(case=gather_cases())
    def test_windows_are_the_rows_they_name_and_zero_elsewhere(self, case: GatherCase) -> None:
        values, starts, lengths, size = case
        before = values.copy()
        windows = gather_windows(values, starts, lengths, size=size)
        assert windows.values.shape == windows.observed.shape == (len(starts), size)
        assert (windows.values.dtype, windows.lengths.dtype) == (np.float32, np.int64)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            window = values[start : start + length]
            np.testing.assert_array_equal(windows.observed[row, :length], ~np.isnan(window))
            np.testing.assert_array_equal(windows.values[row, :length], np.nan_to_num(window).astype(np.float32))
            assert not windows.values[row, length:].any()
            assert not windows.observed[row, length:].any()
        np.testing.assert_array_equal(values, before)

    @pytest.mark.parametrize(("start", "length"), [(-1, 2), (8, 3), (0, 5), (0, -1)])
    def test_a_window_beyond_the_values_or_the_size_is_refused(self, start: int, length: int) -> None:
        with pytest.raises(ValueError, match="within the 10 values and have 0 to 4 steps"):
            gather_windows(np.zeros(10), np.array([start]), np.array([length]), size=4)

    def test_thousands_of_windows_take_milliseconds(self) -> None:
        """2,000 windows of 192 steps: about 1 ms. An index for each element, or a loop, is several times slower."""
        values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
        starts = np.random.default_rng(1).integers(0, 99_000, 2_000)
        lengths = np.random.default_rng(2).integers(1, 193, 2_000)
        durations = []
        for _ in range(7):
            begin = time.perf_counter()
            gather_windows(values, starts, lengths, size=192)
            durations.append(time.perf_counter() - begin)
        assert min(durations) < 0.01


class TestScaling:
    @patient
    @given(
        series=st.lists(
            st.lists(st.one_of(st.just(np.nan), st.floats(-1e9, 1e9, allow_subnormal=False)), min_size=1, max_size=30),
            min_size=1,
            max_size=5,
        ),
        data=st.data(),
    )
    def test_each_series_has_its_own_population_statistics(
        self, series: list[list[float]], data: st.DataObject
    ) -> None:
        panel = make_panel([np.array(values) for values in series])
        ends = np.array([data.draw(st.integers(0, len(values))) for values in series])
        said: list[str] = []
        mean, scale = fit_standard_scaling(panel, ends, notify=said.append)
        for i, values in enumerate(series):
            known = np.array(values[: ends[i]])
            known = known[~np.isnan(known)]
            told = any(repr(f"s{i}") in message for message in said)
            if len(known) == 0:
                assert (mean[i], scale[i], told) == (0.0, 1.0, True)
            elif known.min() == known.max():
                assert (mean[i], scale[i], told) == (known[0], 1.0, True)
            else:
                largest = np.abs(known).max()
                assert mean[i] == pytest.approx(known.mean(), rel=1e-12, abs=1e-12 * largest)
                assert scale[i] == pytest.approx((known / largest).std() * largest, rel=1e-7, abs=1e-12 * largest)
                assert not told

    @patient
    @given(factor=st.sampled_from([1e-300, 1e-160, 1.0, 1e160, 1e300]))
    def test_the_unit_of_a_series_does_not_matter(self, factor: float) -> None:
        """Squares of very large or small numbers leave the floats; their standardised values are the same."""
        values = np.random.default_rng(0).normal(size=50)
        ends = np.array([50])
        panel, scaled = make_panel([values]), make_panel([values * factor])
        np.testing.assert_allclose(
            standardise(scaled, *fit_standard_scaling(scaled, ends, notify=pytest.fail)),
            standardise(panel, *fit_standard_scaling(panel, ends, notify=pytest.fail)),
            rtol=1e-5,
            atol=1e-6,
        )

    def test_a_series_depends_on_no_other_to_the_last_bit(self) -> None:
        """Contract 2: the scaling of a series is the same alone and among a thousand."""
        generator = np.random.default_rng(0)
        series = [generator.normal(size=length) * 10.0**i for i, length in enumerate((40, 3, 100))]
        mean, scale = fit_standard_scaling(make_panel(series), np.array([30, 3, 100]), notify=pytest.fail)
        alone = [
            fit_standard_scaling(make_panel([values]), np.array([end]), notify=pytest.fail)
            for values, end in zip(series, (30, 3, 100), strict=True)
        ]
        assert mean.tolist() == [m[0] for m, _ in alone]
        assert scale.tolist() == [s[0] for _, s in alone]

    def test_a_large_offset_is_taken_away_before_rounding_to_float32(self) -> None:
        """At 1e8, float32 has steps of 8: scaling after the rounding would leave nothing of a series of unit steps."""
        panel = make_panel([1e8 + np.arange(10.0)])
        mean, scale = fit_standard_scaling(panel, np.array([10]), notify=pytest.fail)
        np.testing.assert_allclose(
            standardise(panel, mean, scale), (np.arange(10) - 4.5) / np.arange(10).std(), rtol=1e-6
        )

    def test_many_constant_series_are_counted_and_a_few_named(self) -> None:
        said: list[str] = []
        fit_standard_scaling(make_panel([np.full(3, 0.1)] * 9), np.full(9, 3), notify=said.append)
        assert said == ["9 series constant in the training part, scaled by 1: 's0', 's1', 's2', 's3', 's4' and 4 more."]

    @pytest.mark.parametrize("ends", [[3], [3, 5], [-1, 2]])
    def test_train_ends_outside_the_series_are_refused(self, ends: list[int]) -> None:
        with pytest.raises(ValueError, match="2 series"):
            fit_standard_scaling(panel_of_lengths(3, 4), np.array(ends), notify=pytest.fail)
