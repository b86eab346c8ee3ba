"""Features kept on disk: what is taken is what was computed, and nothing is computed twice. Within one process."""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.feature_cache import FeatureCache
from data.features.file import FeatureRows, lock, unlock

SHAPE = (3, 4)


def features_of(identity: str, *, length: int = 1, shape: tuple[int, ...] = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(identity.encode()))
    return torch.randn((length, *shape), generator=generator)


class Encoder:
    """Remembers what it was asked for; fails at the call of number `fails_at`, as a process that is stopped."""

    def __init__(
        self, identities: Sequence[str], *, lengths: Sequence[int] | None = None, fails_at: int | None = None
    ) -> None:
        self.identities = identities
        self.lengths = lengths or [1] * len(identities)
        self.fails_at = fails_at
        self.calls: list[list[int]] = []

    def __call__(self, rows: list[int]) -> Tensor:
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append(rows)
        return torch.cat([features_of(self.identities[row], length=self.lengths[row]) for row in rows])

    @property
    def encoded(self) -> list[str]:
        return [self.identities[row] for call in self.calls for row in call]


def names(number: int) -> list[str]:
    return [f"image{item}.jpg" for item in range(number)]


def opened(folder: Path, identities: Sequence[str], encode: Any = None, **settings: Any) -> FeatureCache:
    """`encode` None: the features must be there."""
    given: dict[str, Any] = {"name": "demo-train", "key": {"weights": "1f", "transform": "crop"}, "row_shape": SHAPE}
    return FeatureCache.open_or_build(
        folder, identities=identities, encode=encode or _refuse, **{**given, "batch_size": 4, **settings}
    )


def _refuse(rows: list[int]) -> Tensor:
    raise AssertionError(f"items {rows} were computed again")


def files(folder: Path, pattern: str = "demo-*.[fp]*") -> list[Path]:
    return sorted((folder / "features").glob(pattern))


def assert_holds(cache: FeatureCache, identities: Sequence[str]) -> None:
    assert len(cache) == len(identities)
    expected = torch.cat([features_of(identity) for identity in identities]).half()
    assert torch.equal(cache.take(np.arange(len(identities))), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_what_is_taken_is_what_was_computed_rounded_to_float16(tmp_path: Path, dtype: torch.dtype) -> None:
    """And the rounding is within what the docstring promises, small numbers included."""
    generator = torch.Generator().manual_seed(0)
    scales = 10.0 ** torch.arange(-9, 4, dtype=torch.float64)
    features = (torch.randn((13, 50), generator=generator, dtype=torch.float64) * scales[:, None]).to(dtype)
    cache = opened(tmp_path, names(13), lambda rows: features[rows].requires_grad_(), row_shape=(50,))
    order = np.array([12, 0, 5, 5, 7])
    taken = cache.take(order)
    assert taken.dtype == torch.float16
    assert torch.equal(taken, features[order].half())
    exact = features[order].double()
    assert ((taken.double() - exact).abs() <= torch.maximum(exact.abs() * 2**-11, torch.tensor(2.0**-25))).all()


def test_features_may_come_as_arrays(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((5, *SHAPE))
    cache = opened(tmp_path, names(5), lambda rows: features[rows])
    np.testing.assert_array_equal(cache.take(np.arange(5)).numpy(), features.astype(np.float16))


def test_a_second_opening_computes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = opened(tmp_path, names(10), encoder := Encoder(names(10)))
    assert first.num_computed == 10
    assert [len(call) for call in encoder.calls] == [4, 4, 2]
    assert "10 computed" in capsys.readouterr().err
    again = opened(tmp_path, names(10))
    assert again.num_computed == 0
    assert capsys.readouterr().err == ""
    assert_holds(again, names(10))


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=9))
    rows = draw(st.lists(st.integers(0, len(lengths) - 1), max_size=12))
    return lengths, rows, draw(st.integers(1, 10))


@settings(max_examples=25, deadline=None)
@given(case=ragged())
def test_items_of_several_rows_come_padded_with_zeros(case: tuple[list[int], list[int], int]) -> None:
    lengths, rows, batch_size = case
    clips = names(len(lengths))
    with temporary() as folder:
        cache = opened(folder, clips, Encoder(clips, lengths=lengths), lengths=lengths, batch_size=batch_size)
        features, taken_lengths = cache.take_padded(np.array(rows, np.int64))
        assert cache.lengths is not None
        assert cache.lengths.tolist() == lengths
        assert taken_lengths.tolist() == [lengths[row] for row in rows]
        assert taken_lengths.dtype == torch.int64
        expected = torch.zeros(len(rows), max([lengths[row] for row in rows], default=0), *SHAPE, dtype=torch.float16)
        for at, row in enumerate(rows):
            expected[at, : lengths[row]] = features_of(clips[row], length=lengths[row]).half()
        assert torch.equal(features, expected)


@pytest.mark.parametrize("fails_at", range(4))
def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path, fails_at: int) -> None:
    """At every boundary between batches; nobody takes the unfinished file for a whole one."""
    items = names(14)
    first = Encoder(items, fails_at=fails_at)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, items, first)
    assert not files(tmp_path, "*.features")
    second = Encoder(items)
    cache = opened(tmp_path, items, second)
    assert cache.num_computed == 14 - 4 * fails_at
    assert first.encoded + second.encoded == items
    assert_holds(cache, items)
    assert [path.suffix for path in files(tmp_path)] == [".features"]


@settings(max_examples=15, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.lists(st.integers(0, 15), min_size=1, max_size=16), st.none() | st.integers(0, 4)), max_size=5
    ),
    batch_size=st.integers(1, 6),
)
def test_only_what_no_earlier_run_has_left_is_computed(
    runs: list[tuple[list[int], int | None]], batch_size: int
) -> None:
    """Data sets that grow, shrink, repeat items and change their order, some runs stopped in the middle."""
    with temporary() as folder:
        for numbers, fails_at in runs:
            there = {identity for path in files(folder) for identity in identities_in(path)}
            items = [f"image{number}" for number in numbers]
            encoder = Encoder(items, fails_at=fails_at)
            missing = [item for item in dict.fromkeys(items) if item not in there]
            try:
                assert_holds(opened(folder, items, encoder, batch_size=batch_size), items)
            except KeyboardInterrupt:
                assert fails_at is not None
                assert encoder.encoded == missing[: fails_at * batch_size]
                assert set(encoder.encoded) <= {identity for path in files(folder) for identity in identities_in(path)}
            else:
                assert encoder.encoded == missing


def identities_in(path: Path) -> list[str]:
    rows = FeatureRows(path)
    return [identity for identity, done in zip(rows.contents.identities, rows.done, strict=True) if done]


def test_a_run_on_a_part_of_the_data_leaves_the_whole_as_it_is(tmp_path: Path) -> None:
    """A quick trial on a few images must not cost the features of all."""
    opened(tmp_path, names(20), Encoder(names(20)))
    part = names(20)[7:3:-1]
    assert_holds(opened(tmp_path, part), part)
    assert_holds(opened(tmp_path, names(20)), names(20))


def test_growth_is_said_and_computes_the_new_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(tmp_path, names(6), Encoder(names(6)))
    items = ["new1", *names(6)[1:], "new2"]
    cache = opened(tmp_path, items, encoder := Encoder(items))
    assert encoder.encoded == ["new1", "new2"]
    assert_holds(cache, items)
    said = capsys.readouterr().err
    assert "2 items are new and 1 are gone" in said
    assert "2 computed, 5 copied" in said
    assert files(tmp_path) == [cache.path]


def test_a_clip_whose_length_has_changed_is_computed_again(tmp_path: Path) -> None:
    opened(tmp_path, names(3), Encoder(names(3), lengths=[2, 3, 4]), lengths=[2, 3, 4])
    cache = opened(tmp_path, names(3), encoder := Encoder(names(3), lengths=[2, 5, 4]), lengths=[2, 5, 4])
    assert encoder.encoded == ["image1.jpg"]
    assert torch.equal(cache.take_padded(np.array([1])).features[0], features_of("image1.jpg", length=5).half())


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"key": {"weights": "2a", "transform": "crop"}}, "weights"),
        ({"key": {"weights": "2a", "transform": "flip"}}, "transform, weights"),
        ({"key": {"weights": "1f"}}, "transform"),
        ({"row_shape": (12,)}, "shape of the rows"),
        ({"lengths": [1] * 6}, "shape of the rows"),
    ],
)
def test_features_of_another_key_are_replaced_and_it_is_said_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], differs: str
) -> None:
    old = opened(tmp_path, names(6), Encoder(names(6))).path
    shape = changed.get("row_shape", SHAPE)
    capsys.readouterr()
    cache = opened(tmp_path, names(6), lambda rows: torch.ones(len(rows), *shape), **changed)
    assert cache.num_computed == 6
    said = capsys.readouterr().err
    assert f"other {differs}. They are removed afterwards" in said
    assert str(old) in said
    assert files(tmp_path) == [cache.path]


def test_the_old_features_live_until_the_new_are_whole(tmp_path: Path) -> None:
    """A run that is stopped while it computes those of another key has cost nothing."""
    opened(tmp_path, names(6), Encoder(names(6)))
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, names(6), Encoder(names(6), fails_at=1), key={"weights": "2a"})
    assert_holds(opened(tmp_path, names(6)), names(6))


def test_features_that_are_read_are_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another run may train on them, and its workers open them again by name; later they go."""
    old = opened(tmp_path, names(6), Encoder(names(6)))
    new = opened(tmp_path, names(6), Encoder(names(6)), key={"weights": "2a"})
    assert f"{old.path} stays" in capsys.readouterr().err
    assert_holds(pickle.loads(pickle.dumps(old)), names(6))
    del old, new
    last = opened(tmp_path, names(6), Encoder(names(6)), key={"weights": "3c"})
    assert files(tmp_path) == [last.path]


def test_slots_leave_each_other_alone(tmp_path: Path) -> None:
    """Also where the name of one begins like another's."""
    first = opened(tmp_path, names(6), Encoder(names(6)), name="demo")
    second = opened(tmp_path, names(6), Encoder(names(6)), name="demo-0123456789abcdef", key={"weights": "2a"})
    third = opened(tmp_path, names(6), Encoder(names(6)), name="demo-train", key={"weights": "3c"})
    paths = {first.path, second.path, third.path}
    del first, second, third
    for name, key in (("demo", "4d"), ("demo-0123456789abcdef", "5e")):
        paths.add(opened(tmp_path, names(6), Encoder(names(6)), name=name, key={"weights": key}).path)
    assert len(paths) == 5
    assert len(files(tmp_path)) == 3


def test_items_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """A negative number would silently be another item."""
    cache = opened(tmp_path, names(3), Encoder(names(3)))
    for rows in ([-1], [0, 3]):
        with pytest.raises(IndexError, match="Items are 0 to 2"):
            cache.take(np.array(rows))
    assert cache.take(np.array([], np.int64)).shape == (0, *SHAPE)


def test_each_kind_of_item_has_its_own_way_out(tmp_path: Path) -> None:
    images = opened(tmp_path, names(3), Encoder(names(3)))
    clips = opened(tmp_path, names(3), Encoder(names(3), lengths=[1, 2, 1]), lengths=[1, 2, 1], name="clips")
    with pytest.raises(ValueError, match="take gives them"):
        images.take_padded(np.array([0]))
    with pytest.raises(ValueError, match="take_padded gives them"):
        clips.take(np.array([0]))


def test_dropped_features_are_gone(tmp_path: Path) -> None:
    """An encoder that is trained has no features that last; whoever still reads them drops the file."""
    first, second = opened(tmp_path, names(3), Encoder(names(3))), opened(tmp_path, names(3))
    assert not first.drop()
    assert_holds(second, names(3))
    assert second.drop()
    assert second.drop()
    assert not files(tmp_path)
    with pytest.raises(ValueError, match="were dropped"):
        first.take(np.array([0]))
    assert opened(tmp_path, names(3), Encoder(names(3))).num_computed == 3


def test_features_that_are_there_are_read_while_another_process_builds(tmp_path: Path) -> None:
    """The lock of the slot is for building alone: with it, this would wait for ever."""
    opened(tmp_path, names(3), Encoder(names(3)))
    with (tmp_path / "features" / "demo-train.lock").open("r+b") as file:
        assert lock(file, exclusive=True)
        assert_holds(opened(tmp_path, names(3)), names(3))


def test_who_waits_says_so_in_the_way_it_was_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many processes in a run one alone should."""
    (tmp_path / "features").mkdir()
    said: list[str] = []
    with (tmp_path / "features" / "demo-train.lock").open("ab") as file:
        assert lock(file, exclusive=True)

        def notify(message: str) -> None:
            said.append(message)
            unlock(file)

        cache = opened(tmp_path, names(3), Encoder(names(3)), notify_waiting=notify)
    assert cache.num_computed == 3
    assert len(said) == 1
    assert "waiting" in said[0]
    assert "waiting" not in capsys.readouterr().err


def test_a_pickle_holds_no_features(tmp_path: Path) -> None:
    cache = opened(tmp_path, names(4), lambda rows: torch.ones(len(rows), 50, 100), row_shape=(50, 100))
    cache.take(np.array([0]))
    assert len(pickle.dumps(cache)) < 4000
    copy = pickle.loads(pickle.dumps(cache))
    assert torch.equal(copy.take(np.array([3])), cache.take(np.array([3])))
    copy = pickle.loads(pickle.dumps(cache))
    cache.path.unlink()
    with pytest.raises(ValueError, match="was removed or damaged while it was in use"):
        copy.take(np.array([0]))


def test_at_a_terminal_a_bar_runs_and_one_line_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    opened(tmp_path, names(12), Encoder(names(12)), description="image features")
    shown = terminal.getvalue()
    assert "image features demo-train:   0%" in shown
    *bar, last = shown.rstrip("\n").split("\r")
    assert len(bar) > 1
    assert last.startswith("image features demo-train: 12 computed, in ")
    assert shown.count("\n") == 1


@contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
