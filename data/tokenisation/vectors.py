"""Word vectors learnt elsewhere, for the words of a vocabulary."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from data.paths import cache_folder, find_data
from data.tokenisation.base import SPECIALS
from data.tokenisation.words import JOINER


@dataclass(frozen=True)
class WordVectors:
    """Vectors for the numbers of a vocabulary, to begin an embedding with."""

    values: Float32[Tensor, "vocabulary width"]
    """Zero where none is known."""
    found: Bool[Tensor, "vocabulary"]
    """True where the file has a vector. The others, special tokens among them, keep what the embedding begins with."""

    @property
    def width(self) -> int:
        """Numbers a vector."""
        return self.values.shape[1]

    @property
    def share_found(self) -> float:
        """Share of the vocabulary, special tokens aside, that the file has a vector for, 0 to 1."""
        return float(self.found[len(SPECIALS) :].float().mean())


def read_vectors(path: str | Path, *, pieces: Sequence[str], cache_dir: str | None = None) -> WordVectors:
    """Vectors from a local file: a word and its numbers a line, separated by spaces, with or without a header.

    A word that the file lacks takes the vector of its lower-case form.

    Args:
        path: the file; relative to the working directory or UNROLL_DATA. Nothing is downloaded.
        pieces: the vocabulary, special tokens first.
        cache_dir: where the file's numbers are kept. None: UNROLL_CACHE, or the user's cache folder.

    Raises:
        ValueError: The file is missing or malformed, or has none of the words.
    """
    file = find_data(path)
    if not file.is_file():
        raise ValueError(f"{file} is no file. Give one file of word vectors, a word and its numbers a line.")
    vectors = _read(file, Path(cache_dir) if cache_dir else cache_folder())
    values = torch.zeros(len(pieces), vectors.dim)
    found = torch.zeros(len(pieces), dtype=torch.bool)
    for number, piece in enumerate(pieces[len(SPECIALS) :], start=len(SPECIALS)):
        word = piece.strip(JOINER)
        place = vectors.stoi.get(word, vectors.stoi.get(word.lower()))
        if place is not None:
            values[number] = vectors.vectors[place]
            found[number] = True
    if not found.any():
        raise ValueError(
            f"{file} has a vector for none of the {len(pieces) - len(SPECIALS)} words of the vocabulary (in the file: "
            f"{', '.join(vectors.itos[:3])}; in the vocabulary: {', '.join(pieces[len(SPECIALS) :][:3])}). Is it of another "
            "language?"
        )
    if not torch.isfinite(values).all():
        number = int((~torch.isfinite(values).all(1)).nonzero()[0])
        raise ValueError(f"{file}: the vector of {pieces[number]!r} is not finite. Correct or remove its line.")
    return WordVectors(values, found)


def _read(file: Path, cache: Path) -> Any:
    from torchtext.vocab import Vectors

    # torchtext tells cached files by their name alone: another file, or a newer one, must lie elsewhere.
    state = file.stat()
    key = hashlib.sha256(f"{file.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
    try:
        with _unchanged_process():
            return Vectors(str(file), cache=str(cache / "vectors" / key))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{file}{_malformed_line(file)}\nIt must have a word and its numbers on each line, separated by single spaces."
        ) from error


def _malformed_line(file: Path) -> str:
    """Which line is no word with as many numbers as the others, as far as that can be said."""
    width = None
    for line, raw in enumerate(file.open("rb"), start=1):
        numbers = raw.rstrip().split(b" ")[1:]
        if len(numbers) <= 1:
            continue
        width = width or len(numbers)
        if len(numbers) != width:
            return f", line {line}: {len(numbers)} numbers, but {width} on the lines before."
        try:
            np.array(numbers, dtype=np.float64)
        except ValueError:
            return f", line {line}: {b' '.join(numbers)[:40].decode(errors='replace')!r} ... are not all numbers."
    return " has no word vectors." if width is None else " cannot be read as word vectors."


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Keeps what torchtext does beside reading to itself: a progress bar, and certificates no longer checked by anyone."""
    context = ssl._create_default_https_context
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        ssl._create_default_https_context = context
