"""Features kept on disk, where something is wrong: with the file, the disk, the encoder or what was asked for."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.data.test_feature_cache import SHAPE, Encoder, assert_holds, files, names, opened


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(position: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return change


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {
    "cut": cut,
    "longer": lengthen,
    "format": flip(2),
    "size of the header": flip(14),
    "header": flip(40),
    "empty": empty,
}


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_replaced_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], unfinished: bool
) -> None:
    if unfinished:
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, names(6), Encoder(names(6), fails_at=1))
    else:
        opened(tmp_path, names(6), Encoder(names(6)))
    [path] = files(tmp_path)
    damage(path)
    cache = opened(tmp_path, names(6), Encoder(names(6)))
    assert cache.num_computed == 6
    assert f"{path} is damaged" in capsys.readouterr().err
    assert_holds(cache, names(6))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 65_520.0, -1e30])
def test_what_float16_cannot_hold_names_the_item(tmp_path: Path, value: float) -> None:
    """An infinity in a feature would show up as a loss of NaN, much later."""

    def encode(rows: list[int]) -> Tensor:
        features = torch.full((sum(lengths[row] for row in rows), *SHAPE), 65_504.0)
        if 5 in rows:
            features[sum(lengths[row] for row in rows if row <= 5) - 1, 2, 1] = value
        return features

    lengths = [1, 2, 1, 3, 2, 3, 1]
    with pytest.raises(ValueError, match=r"item 5 \(image5\.jpg\) has a feature .* beyond 65,504"):
        opened(tmp_path, names(7), encode, lengths=lengths)
    assert not files(tmp_path, "*.features")


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/features.* cannot be written .*UNROLL_CACHE"):
        opened(tmp_path / "file", names(3), Encoder(names(3)))


def test_a_disk_without_room_is_noticed_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 4000, 4000))
    with pytest.raises(ValueError, match=r"has 0\.0 MB free, .* need 0\.\d MB more.*UNROLL_CACHE"):
        opened(tmp_path, names(10), row_shape=(50, 100))
    assert not files(tmp_path)


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real failing write: beyond the largest size of a file that this process may have."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def encode(rows: list[int]) -> Tensor:
        if rows[0] == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        return torch.ones(len(rows), 50, 100)

    try:
        with pytest.raises(ValueError, match="UNROLL_CACHE") as raised:
            opened(tmp_path, names(12), encode, row_shape=(50, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EFBIG
    assert not files(tmp_path)


def test_an_error_of_the_encoder_stays_what_it_is(tmp_path: Path) -> None:
    """An image that is missing is an OSError too, and no full disk."""

    def encode(rows: list[int]) -> Tensor:
        raise FileNotFoundError("image0.jpg")

    with pytest.raises(FileNotFoundError, match=r"image0\.jpg"):
        opened(tmp_path, names(3), encode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identities": []}, "no items"),
        ({"name": "../demo"}, "letters, digits"),
        ({"batch_size": 0}, "batch_size of the features must be at least 1"),
        ({"row_shape": (3, 0)}, "at least 1"),
        ({"lengths": [1, 2]}, "3 items, but 2 lengths"),
        ({"lengths": [1, 0, 2]}, r"image1\.jpg has a length of 0"),
        ({"identities": ["a", "b", "a"], "lengths": [1, 1, 2]}, "a has a length of 2"),
        ({"row_shape": (4, 3)}, r"shape \(3, 4, 3\), got \(3, 3, 4\)"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, change.pop("identities", names(3)), Encoder(names(3)), **change)
