"""Rows of any table as pictures: a caption a row, several captions in a row, or columns of captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data.captions.corpus import Entry


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    """Its picture."""
    captions: list[str]
    where: str
    """Its place, for messages."""
    has_list: bool
    """Whether it holds all captions of its picture, and not one of them."""


def captions_of(values: Sequence[Any], *, columns: Sequence[str], where: str) -> tuple[list[str], bool]:
    """The captions in a row's columns, and whether they are meant to be all of the picture's.

    What is missing is empty, and treated as every empty caption is.

    Raises:
        ValueError: a column holds neither text nor a list of texts.
    """
    captions: list[str] = []
    has_list = len(columns) > 1
    for column, value in zip(columns, values, strict=True):
        if isinstance(value, list):
            has_list = True
        texts = value if isinstance(value, list) else [value]
        wrong = next((text for text in texts if text is not None and not isinstance(text, str)), None)
        if wrong is not None:
            raise ValueError(
                f"{where}: {column!r} holds {str(wrong)[:60]!r} ({type(wrong).__name__}), but must hold a caption or a list of "
                "them. Name the column of captions by data.corpus.caption_column."
            )
        captions += [text or "" for text in texts]
    return captions, has_list


def joined(rows: Iterable[Row]) -> tuple[list[Entry], list[int]]:
    """The pictures in the order of their first rows, each with the captions of all its rows; and those first rows.

    Raises:
        ValueError: a picture has two rows, one of which holds a list of captions.
    """
    entries: dict[str, Entry] = {}
    lists: set[str] = set()
    first_rows = []
    for number, row in enumerate(rows):
        known = entries.get(row.name)
        if known is None:
            entries[row.name] = Entry(row.name, list(row.captions), row.where)
            first_rows.append(number)
        elif row.has_list or row.name in lists:
            raise ValueError(
                f"{row.where}: the picture {row.name!r} is there a second time; the first is {known.where}. With all captions "
                "of a picture in one row, it has one row: join them."
            )
        else:
            known.captions.extend(row.captions)
        if row.has_list:
            lists.add(row.name)
    return list(entries.values()), first_rows


def caption_columns(column: str | Sequence[str]) -> tuple[str, ...]:
    """The columns that `data.corpus.caption_column` names.

    Raises:
        ValueError: none, or one twice.
    """
    columns = (column,) if isinstance(column, str) else tuple(column)
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(
            f"data.corpus.caption_column must name a column, or several different ones, got {list(columns)}."
        )
    return columns
