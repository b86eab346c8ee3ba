"""What `predict` reads and writes: text, JSON lines, alignments and heat maps."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.translation.generation import Translation
from core.training.command.prediction import STANDARD
from data.line_stream import line_stream
from data.text import Text

# A picture of more pieces than these has letters that nobody can read.
_MOST_PIECES_DRAWN = 80


def input_lines(path: str, stack: contextlib.ExitStack) -> tuple[Iterator[str], int | None]:
    """The lines of a file or of standard input, and how many there are where that can be known beforehand."""
    if path == STANDARD:
        return line_stream(sys.stdin.buffer, name="standard input"), None
    total, last = 0, b"\n"
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total += block.count(b"\n")
            last = block[-1:]
    # The last line may lack its end.
    total += last != b"\n"
    return line_stream(stack.enter_context(Path(path).open("rb")), name=path), total


def as_text(number: int, found: list[Translation], *, with_scores: bool) -> str:
    """The best translation, or each with the number of its line and its score."""
    if not with_scores:
        return (found[0].text if found else "") + "\n"
    if not found:
        return f"{number} |||  ||| 0\n"
    return "".join(f"{number} ||| {one.text} ||| {one.score:.6g}\n" for one in found)


def as_json(source: str, found: list[Translation]) -> str:
    """An object a line."""
    hypotheses: list[dict[str, Any]] = [
        {
            "text": one.text,
            "score": one.score,
            "log_probability": one.log_probability,
            "alignment": None if one.alignment is None else [list(pair) for pair in one.alignment],
        }
        for one in found
    ]
    return json.dumps({"source": source, "hypotheses": hypotheses}, ensure_ascii=False) + "\n"


def as_pharaoh(found: list[Translation]) -> str:
    """Source-target pairs of words, from 0, of the best translation."""
    if not found:
        return ""
    assert found[0].alignment is not None
    return " ".join(f"{source}-{target}" for source, target in found[0].alignment)


def paired_lines(
    sources: Iterator[str], targets: Iterator[str], *, names: tuple[str, str]
) -> Iterator[tuple[str, str]]:
    """Line by line of two files.

    Raises:
        ValueError: at the end of the shorter one; the message has both numbers.
    """
    number = 0
    for source in sources:
        target = next(targets, None)
        if target is None:
            number_of_sources = number + 1 + sum(1 for _ in sources)
            raise _unequal(names, number_of_sources, number)
        number += 1
        yield source, target
    further = sum(1 for _ in targets)
    if further:
        raise _unequal(names, number, number + further)


def _unequal(names: tuple[str, str], first: int, second: int) -> ValueError:
    return ValueError(
        f"--input {names[0]} has {first} lines, but --target {names[1]} has {second}: each line needs its translation."
    )


class HeatMaps:
    """Draws where attention looked, a picture a line, for the first lines that have words.

    Args:
        folder: where pictures are written.
        most: how many.
        source_text: the vocabulary of the source.
    """

    def __init__(self, folder: Path, *, most: int, source_text: Text) -> None:
        self._folder = folder
        self._most = most
        self._source_text = source_text
        self._num_drawn = 0
        self._too_long: list[int] = []
        self._num_left_out = 0

    def add(self, number: int, source: str, found: list[Translation]) -> None:
        """The best translation of line `number`, counted from 1."""
        from apps.translation.plots import plot_attention

        if not found or found[0].attention is None:
            return
        # The columns of what was translated together with longer sentences are more than the sentence has pieces.
        num_pieces = len(self._source_text.encode([source])[0])
        if max(num_pieces, len(found[0].tokens)) > _MOST_PIECES_DRAWN:
            self._too_long.append(number)
        elif self._num_drawn == self._most:
            self._num_left_out += 1
        else:
            plot_attention([(source, found[0])], self._folder / f"line_{number}.png", source_text=self._source_text)
            self._num_drawn += 1

    def messages(self) -> list[str]:
        """What was drawn and what was not."""
        said = [f"Drew {self._num_drawn} heat maps in {self._folder}."]
        if self._num_left_out:
            said.append(f"{self._num_left_out} further lines are not drawn: --num_heat_maps is {self._most}.")
        if self._too_long:
            some = ", ".join(map(str, self._too_long[:5])) + (" ..." if len(self._too_long) > 5 else "")
            said.append(f"Not drawn, for they have more than {_MOST_PIECES_DRAWN} pieces: line {some}.")
        return said
