"""Where data is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.paths import EMBEDDED, cache_folder, find_data


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("UNROLL_DATA", "UNROLL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_the_working_directory_goes_before_the_data_folder_before_the_embedded_sets(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "demo/seattle_weather.csv"
    assert find_data(name) == EMBEDDED / name
    for folder in (tmp_path / "data", here):
        monkeypatch.setenv("UNROLL_DATA", str(tmp_path / "data"))
        (folder / "demo").mkdir(parents=True)
        (folder / name).write_text("")
        assert find_data(name) == folder / name


def test_absolute_paths_and_folders_are_taken_as_they_are(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    (here / "set").mkdir()
    assert find_data(here / "set") == here / "set"
    assert find_data("~/set") == here / "set"


def test_a_path_that_is_nowhere_names_every_place_and_what_is_beside_it(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "sales.csv").write_text("")
    (here / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no file or folder 'sale\.csv'.*Set UNROLL_DATA") as raised:
        find_data("sale.csv")
    message = str(raised.value)
    assert str(here / "sale.csv") in message
    assert str(EMBEDDED / "sale.csv") in message
    assert message.endswith("Files beside it: sales.csv.")
    monkeypatch.setenv("UNROLL_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no file or folder") as raised:
        find_data("sale.csv")
    assert str(tmp_path / "data" / "sale.csv") in str(raised.value)
    assert "Set UNROLL_DATA" not in str(raised.value)
    absolute = here / "lost" / "x.csv"
    with pytest.raises(ValueError, match=f"Looked at: {absolute}"):
        find_data(absolute)


def test_the_cache_is_where_the_environment_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert cache_folder() == here / ".cache" / "unroll"
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "xdg"))
    assert cache_folder() == here / "xdg" / "unroll"
    monkeypatch.setenv("UNROLL_CACHE", "~/mine")
    assert cache_folder() == here / "mine"
