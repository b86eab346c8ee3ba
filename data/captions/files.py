"""What the readers of all forms do alike: find folders and files, and read JSON with errors that name the place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from data.captions.corpus import some
from data.parallel.files import read_text
from data.paths import find_data


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


def image_folder(folder: Path, name: str, *, key: str = "images") -> Path:
    """The folder of pictures below the folder of a corpus; errors as in `existing_file`."""
    images = folder / name
    if not images.is_dir():
        there = sorted(found.name for found in folder.iterdir() if found.is_dir())
        raise ValueError(
            f"There is no folder {images} with pictures. Folders in {folder}: {some(there) or 'none'}. Name the right one by "
            f"data.corpus.{key}."
        )
    return images


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object that a file is.

    Raises:
        ValueError: it is no UTF-8, no JSON or no object; the message has the line.
    """
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {error.lineno}, column {error.colno}: no JSON ({error.msg}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {_shown(content)}, but must hold a JSON object.")
    return content


_KINDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def field(holder: Any, key: str, *kinds: type, where: str) -> Any:
    """What an object of JSON holds under a key.

    Args:
        holder: the object.
        key: the key.
        kinds: what it may be: str, int, list or dict.
        where: place of the object, for messages.

    Raises:
        ValueError: the holder is no object, lacks the key or holds something else.
    """
    expected = " or ".join(_KINDS[kind] for kind in kinds)
    if not isinstance(holder, dict):
        raise ValueError(f"{where}: {_shown(holder)} is no JSON object. It must be one with {key!r}, {expected}.")
    if key not in holder:
        raise ValueError(f"{where}: {key!r} is missing. There are: {some(list(map(repr, holder))) or 'no keys'}.")
    value = holder[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{where}: {key!r} is {_shown(value)}, but must be {expected}.")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def missing_column(column: str, there: Collection[str], *, where: str, key: str) -> ValueError:
    """What to raise where a table lacks a column: names those there are, the most alike first."""
    nearest = difflib.get_close_matches(column, there, n=1, cutoff=0.0)
    names: Sequence[str] = nearest + [other for other in there if other not in nearest]
    return ValueError(
        f"{where}: column {column!r} is missing. There are: {', '.join(map(repr, names))}. Name the right one by "
        f"data.corpus.{key}."
    )
