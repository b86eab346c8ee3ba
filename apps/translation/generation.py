"""From hypotheses to text: decoded, with unknown words replaced, and aligned word by word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from core.nn.search import Hypotheses
from data.text import EOS, PAD, SPECIALS, UNK, Text, TokenArrays

Attention = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Translation:
    """One translation of one sentence."""

    text: str
    """As a reader wants it."""
    score: float
    """What the search ranked by: log-probability, with its penalties."""
    log_probability: float
    """log P(translation | source), natural logarithm."""
    alignment: list[tuple[int, int]] | None
    """(source word, target word), counted from 0, one pair a target word; None without attention or where not asked for."""
    tokens: list[str] = field(default_factory=list)
    """Pieces, the end included where there is one."""
    attention: Attention | None = None
    """(pieces of the translation, pieces of the source), rows sum to 1; None without attention."""
    is_finished: bool = True
    """Whether the network has ended it; otherwise it was cut at the most pieces that a translation may have."""


def read_hypotheses(
    hypotheses: Hypotheses,
    *,
    sources: Sequence[str],
    num_pieces: Sequence[int],
    source_text: Text,
    target_text: Text,
    replace_unknown: bool = False,
    align: bool = True,
) -> list[list[Translation]]:
    """The translations of each sentence, best first.

    Args:
        hypotheses: what search found.
        sources: the raw sentences.
        num_pieces: pieces of each that the network has read, without its end; fewer than it has where it was cut.
        source_text: their vocabulary.
        target_text: that of the translations.
        replace_unknown: put the source word that attention looked at most in the place of an unknown word (Luong et al.,
            ACL 2015, section 3).
        align: find the alignments, which takes a decoding of the text for each of its pieces.
    """
    attention = None if hypotheses.attention is None else hypotheses.attention.float().cpu().numpy()
    lists = hypotheses.token_lists()
    lengths, scores, log_probabilities = (
        part.tolist() for part in (hypotheses.lengths, hypotheses.scores, hypotheses.log_probabilities)
    )
    found = []
    for row, (source, read) in enumerate(zip(sources, num_pieces, strict=True)):
        words_of_pieces = source_text.pieces_of_words(source)[:read]
        found.append(
            [
                _read(
                    ids,
                    attention=None if attention is None else attention[row, rank, : lengths[row][rank]],
                    finished=bool(lengths[row][rank] > len(ids)),
                    source=source,
                    words_of_pieces=words_of_pieces,
                    text=target_text,
                    replace_unknown=replace_unknown,
                    align=align,
                    score=scores[row][rank],
                    log_probability=log_probabilities[row][rank],
                )
                for rank, ids in enumerate(lists[row])
            ]
        )
    return found


def as_sources(sentences: TokenArrays) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch"]]:
    """Encoded sentences as a padded batch, each with its end, and their lengths."""
    return torch.from_numpy(sentences.padded(after=EOS, padding=PAD)), torch.from_numpy(sentences.lengths + 1)


def texts_of(hypotheses: Hypotheses, *, target_text: Text) -> list[str]:
    """The best translation of each sentence as text."""
    return [target_text.decode(found[0]) if found else "" for found in hypotheses.token_lists()]


def _read(
    ids: list[int],
    *,
    attention: Attention | None,
    finished: bool,
    source: str,
    words_of_pieces: npt.NDArray[np.int64],
    text: Text,
    replace_unknown: bool,
    align: bool,
    score: float,
    log_probability: float,
) -> Translation:
    alignment = copied = None
    if attention is not None:
        # The source's end stands behind its pieces; a word is aligned with words alone.
        by_word = _over_words(attention[:, : len(words_of_pieces)], words_of_pieces)
        if replace_unknown and by_word.shape[1]:
            words = _without_marks(source.split(), words_of_pieces)
            copied = [words[int(row.argmax())] for row in by_word]
        alignment = _align(ids, by_word=by_word, text=text) if align else None
    tokens = text.tokens(ids + [EOS] * finished)
    decoded = text.decode(ids) if copied is None else _with_copies(ids, copied=copied, text=text)
    return Translation(decoded, score, log_probability, alignment, tokens, attention, finished)


def _over_words(attention: Attention, words_of_pieces: npt.NDArray[np.int64]) -> Attention:
    num_words = int(words_of_pieces[-1]) + 1 if len(words_of_pieces) else 0
    by_word = np.zeros((len(attention), num_words), attention.dtype)
    np.add.at(by_word.T, words_of_pieces, attention.T)
    return by_word


def _align(ids: list[int], *, by_word: Attention, text: Text) -> list[tuple[int, int]]:
    """Each target word with the source word that its pieces together looked at most."""
    if by_word.shape[1] == 0:
        return []
    received: dict[int, Attention] = {}
    for step in range(len(ids)):
        # The word a piece belongs to is the last one of the text up to it, for every way of cutting text in pieces.
        word = max(len(text.decode(ids[: step + 1]).split()) - 1, 0)
        received[word] = received.get(word, 0) + by_word[step]
    num_words = len(text.decode(ids).split())
    return [(int(weights.argmax()), word) for word, weights in sorted(received.items()) if word < num_words]


def _without_marks(words: list[str], words_of_pieces: npt.NDArray[np.int64]) -> list[str]:
    """Words to be copied: a mark that is a piece of its own has its own place in the translation."""
    num_pieces = np.bincount(words_of_pieces, minlength=len(words))
    marks = "".join({character for word in words for character in word if unicodedata.category(character)[0] == "P"})
    return [(word.strip(marks) or word) if count > 1 else word for word, count in zip(words, num_pieces, strict=True)]


def _with_copies(ids: list[int], *, copied: list[str], text: Text) -> str:
    unknown = SPECIALS[UNK]
    first, *behind = text.decode(ids).split(unknown)
    between = [unknown] * len(behind)
    for step, token in enumerate(ids):
        if token == UNK:
            # Known pieces may spell the same.
            between[text.decode(ids[:step]).count(unknown)] = copied[step]
    return first + "".join(word + part for word, part in zip(between, behind, strict=True))
