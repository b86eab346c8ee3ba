"""Text files with a sentence a line: read strictly, and compared line by line where their numbers of lines differ."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import numpy.typing as npt

# What other programs take for the end of a line, and this one does not.
_LOOKS_LIKE_A_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]|\r")
# Standard errors by which lines must fit their partners better than any others, for a place to be named.
_CLEARLY = 4.0


def read_text(file: Path) -> str:
    """A file's text.

    Raises:
        ValueError: it is empty or no UTF-8; the message has the line and the byte.
    """
    raw = file.read_bytes()
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}, line {line}: byte {error.start} of the file (the first is 0) is "
            f"{raw[error.start : error.start + 1]!r}, which is no UTF-8 there. Save the file as UTF-8."
        ) from None
    if not text:
        raise ValueError(f"{file} is empty. It needs a sentence a line.")
    return text


def read_lines(file: Path) -> list[str]:
    r"""The lines of a file, split at \n or \r\n and nowhere else.

    Raises:
        ValueError: see `read_text`.
    """
    lines = read_text(file).split("\n")
    if not lines[-1]:  # the last line ends, too
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def mismatch_message(source: list[str], target: list[str], *, source_file: Path, target_file: Path) -> str:
    """What to say where two files should have the same number of lines: both numbers, and a guess where they part."""
    numbers = f"{source_file} has {len(source)} lines, but {target_file} has {len(target)}: each must have its partner."
    longer, shorter = (source, target) if len(source) > len(target) else (target, source)
    longer_file = source_file if len(source) > len(target) else target_file
    extra = len(longer) - len(shorter)
    row = first_extra_line(longer, shorter)
    if row == len(shorter):
        guess = (
            f"The lines seem to belong together as far as both go: line {row + 1} of {longer_file} on may be too many."
        )
    elif row is not None:
        what = f"line {row + 1}" if extra == 1 else f"lines {row + 1} to {row + extra}"
        guess = (
            f"A guess, by lengths, numbers and punctuation: {what} of {longer_file} may have no partner. There stands "
            f"{_start(longer[row])}, beside {_start(shorter[row])}."
        )
    else:
        guess = "Where they part cannot be told from lengths, numbers and punctuation."
    hints = [
        f" {file} holds {count} characters that some programs take for a line's end ({', '.join(kinds)}); only \\n is one."
        for file, lines in ((source_file, source), (target_file, target))
        for count, kinds in [_line_end_like(lines)]
        if count
    ]
    return f"{numbers}\n{guess}{''.join(hints)}"


def first_extra_line(longer: list[str], shorter: list[str]) -> int | None:
    """A guess from which line on the longer text has lines that the shorter one lacks; None where none stands out.

    For every row it is summed up how well the lines before it fit as they stand, and those after it moved on by the
    difference of the two numbers; the row with the largest sum wins. `len(shorter)` says that all fit as they stand.
    """
    first, second = _features(longer), _features(shorter)
    as_they_stand = _fit(first[: len(shorter)], second)
    moved_on = _fit(first[len(longer) - len(shorter) :], second)
    before = np.concatenate([[0.0], np.cumsum(as_they_stand)])
    behind = np.concatenate([np.cumsum(moved_on[::-1])[::-1], [0.0]])
    row = int((before + behind).argmax())
    best = np.concatenate([as_they_stand[:row], moved_on[row:]])
    # Lines that belong together must fit better than lines half a text apart, or there is nothing to see.
    chance = _fit(first[: len(shorter)], np.roll(second, len(shorter) // 2, axis=0))
    error = np.sqrt((best.var() + chance.var()) / len(shorter))
    return row if best.mean() - chance.mean() > _CLEARLY * error else None


def _features(lines: list[str]) -> npt.NDArray[np.float64]:
    """Of each line: the logarithm of its length, a number for its digits, a number for the mark it ends with."""
    features = np.empty((len(lines), 3))
    for row, line in enumerate(lines):
        stripped = line.strip()
        digits = "".join(re.findall(r"\d+", stripped))
        features[row, 0] = np.log(len(stripped) + 5)
        features[row, 1] = float(int(digits[:15])) + 1 if digits else 0
        last = stripped[-1:]
        features[row, 2] = ord(last) if last and unicodedata.category(last).startswith("P") else 0
    return features


def _fit(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How well lines fit each other, higher is better; about 1 for a translation."""
    ratio = first[:, 0] - second[:, 0]
    lengths = -np.abs(ratio - np.median(ratio)) * 2
    digits = np.where(first[:, 1] == second[:, 1], np.where(first[:, 1] > 0, 2.0, 0.0), -1.0)
    marks = np.where(first[:, 2] == second[:, 2], 0.5, -0.5)
    fit: npt.NDArray[np.float64] = lengths + digits + marks
    return fit


def _line_end_like(lines: list[str]) -> tuple[int, list[str]]:
    found = [mark for line in lines for mark in _LOOKS_LIKE_A_LINE_END.findall(line)]
    return len(found), sorted({f"U+{ord(mark):04X}" for mark in found})


def _start(line: str) -> str:
    return repr(line if len(line) <= 50 else line[:47] + "...")
