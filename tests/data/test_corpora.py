"""Folders and files of a corpus: what is missing is named, with what there is in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.corpora import corpus_folder, existing_file, folder_below, some


@pytest.mark.parametrize("number", [0, 1, 5, 6, 40])
def test_some_names_no_more_than_five_and_counts_the_others(number: int) -> None:
    names = [f"<{each}>" for each in range(number)]
    said = some(names)
    assert said.count("<") == min(number, 5)
    assert (f"and {number - 5} more" in said) == (number > 5)


def test_what_is_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "lists" / "first").mkdir(parents=True)
    (tmp_path / "lists" / "train.txt").write_text("a\n")
    assert corpus_folder(str(tmp_path)) == tmp_path
    assert folder_below(tmp_path, "lists/first", of="lists", key="lists") == tmp_path / "lists" / "first"
    assert existing_file(tmp_path, "lists/train.txt", key="table") == tmp_path / "lists" / "train.txt"


def test_what_is_missing_is_named_with_the_nearest_and_the_key(tmp_path: Path) -> None:
    for name in ("train.csv", "notes.md", "empty.csv"):
        (tmp_path / name).write_text("" if name == "empty.csv" else "a")
    (tmp_path / "clips").mkdir()
    with pytest.raises(ValueError, match=r"trian\.csv does not exist.* train\.csv.*by data\.corpus\.table\."):
        existing_file(tmp_path, "trian.csv", key="table")
    with pytest.raises(ValueError, match=r"empty\.csv is empty.*data\.corpus\.table"):
        existing_file(tmp_path, "empty.csv", key="table")
    with pytest.raises(
        ValueError, match=r"no folder .*videos with clips\. Folders in .*: clips\. .*data\.corpus\.videos"
    ):
        folder_below(tmp_path, "videos", of="clips", key="videos")
    with pytest.raises(ValueError, match=r"train\.csv is a file\. Give the folder it lies in"):
        corpus_folder(str(tmp_path / "train.csv"))
