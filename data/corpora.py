"""What the readers of every kind of corpus do alike: find its folder and what lies below it, and name what is missing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from data.paths import find_data

# Names in a message: enough to find the pattern, not a screenful.
_MAX_NAMED = 5


def some(names: Sequence[str]) -> str:
    """The first of some names, for a message, and how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def corpus_folder(path: str) -> Path:
    """The folder that `data.corpus.path` means.

    Raises:
        ValueError: there is none.
    """
    folder = find_data(path)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is a file. Give the folder it lies in as data.corpus.path, and the files by their own keys."
        )
    return folder


def existing_file(folder: Path, name: str, *, key: str) -> Path:
    """A file below the folder of a corpus.

    Args:
        folder: that folder.
        name: the file's name, or its path below the folder.
        key: the setting that names it.

    Raises:
        ValueError: it is missing, with the files there are, or empty.
    """
    file = folder / name
    if not file.is_file():
        there = sorted(found.name for found in file.parent.iterdir() if found.is_file()) if file.parent.is_dir() else []
        nearest = difflib.get_close_matches(file.name, there, n=5) or there
        raise ValueError(
            f"{file} does not exist. Files in {file.parent}: {some(nearest) or 'none'}. Name the right one by "
            f"data.corpus.{key}."
        )
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty. Name the right file by data.corpus.{key}.")
    return file


def folder_below(folder: Path, name: str, *, of: str, key: str) -> Path:
    """A folder below the folder of a corpus.

    Args:
        folder: that of the corpus.
        name: the folder's name, or its path below that of the corpus.
        of: what it holds, for messages.
        key: the setting that names it.

    Raises:
        ValueError: it is missing, with the folders there are.
    """
    found = folder / name
    if not found.is_dir():
        there = sorted(other.name for other in folder.iterdir() if other.is_dir())
        raise ValueError(
            f"There is no folder {found} with {of}. Folders in {folder}: {some(there) or 'none'}. Name the right one by "
            f"data.corpus.{key}."
        )
    return found
