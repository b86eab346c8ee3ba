"""Sentences and their translations, and what is checked about any of them wherever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from data.batching import Indices

# Places in a message: enough to find the pattern, not a screenful.
_MAX_NAMED = 5


@dataclass(frozen=True)
class Place:
    """Where the pairs stand, for messages."""

    names: tuple[str, ...]
    """The files of source and target, or the one that holds both."""
    unit: Literal["line", "row"]
    """What is counted from 1 in them."""
    numbers: Sequence[int] | None = None
    """The line of each pair, where lines without a pair lie between them."""

    @property
    def name(self) -> str:
        """The files."""
        return " and ".join(self.names)

    def of(self, rows: Iterable[int]) -> str:
        """Where some pairs stand: "train.en and train.de, lines 3, 9 and 2 more"."""
        rows = list(rows)
        shown = rows if len(rows) <= _MAX_NAMED + 1 else rows[:_MAX_NAMED]
        numbers = [str(row + 1 if self.numbers is None else self.numbers[row]) for row in shown]
        if len(shown) < len(rows):
            numbers.append(f"{len(rows) - len(shown)} more")
        listed = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
        return f"{self.name}, {self.unit}{'s' if len(rows) > 1 else ''} {listed}"


@dataclass(frozen=True)
class ParallelText:
    """Pairs of sentences, as read: nothing is normalised, stripped or left out.

    Raises:
        ValueError: source and target are the same throughout.
    """

    source: list[str]
    target: list[str]
    place: Place

    def __post_init__(self) -> None:
        assert len(self.source) == len(self.target) > 0
        if self.source == self.target:
            raise ValueError(
                f"{self.place.name}: source and target are the same in all {len(self.source)} pairs, so there is nothing to "
                "translate. Check the files, and data.source and data.target."
            )

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """Tells one text from another by its content, wherever it lies."""
        digest = hashlib.sha256(b"%d" % len(self))
        for side in (self.source, self.target):
            # The lengths say where each sentence ends, which a mark between them could not: it may stand in one.
            digest.update(np.fromiter(map(len, side), np.int64, len(side)).tobytes())
            digest.update("".join(side).encode())
        return digest.hexdigest()[:16]

    def without_words(self) -> Indices:
        """The pairs whose source or target is empty or white space."""
        empty = [
            not (source and target)
            for source, target in zip(map(str.strip, self.source), map(str.strip, self.target), strict=True)
        ]
        return np.flatnonzero(empty)
