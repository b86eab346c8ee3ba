"""Text as numbers: choose `BPE`, `Unigram` or `Words`, build a vocabulary, encode lines, decode them again.

The four special tokens have the same numbers everywhere: padding 0, begin 1, end 2, unknown 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from data.tokenisation.arrays import TokenArrays
from data.tokenisation.base import BOS, EOS, PAD, SPECIALS, UNK, Text, TextConfig
from data.tokenisation.normalisation import Normalisation
from data.tokenisation.subwords import BPE, BPEText, Unigram, UnigramText
from data.tokenisation.words import Words, WordText

__all__ = [
    "BOS",
    "BPE",
    "EOS",
    "PAD",
    "SPECIALS",
    "UNK",
    "BPEText",
    "Normalisation",
    "Text",
    "TextConfig",
    "TokenArrays",
    "Unigram",
    "UnigramText",
    "WordText",
    "Words",
    "load_text",
]

_FROM_PLAIN: dict[str, Callable[[Mapping[str, Any], Normalisation], Text]] = {
    "BPE": lambda plain, normalisation: BPEText(
        plain["pieces"], merges=plain["merges"].numpy(), normalisation=normalisation
    ),
    "Unigram": lambda plain, normalisation: UnigramText(
        plain["pieces"], scores=plain["scores"].numpy(), normalisation=normalisation
    ),
    "Words": lambda plain, normalisation: WordText(
        plain["pieces"], tokeniser=plain["tokeniser"], normalisation=normalisation
    ),
}


def load_text(plain: Mapping[str, Any]) -> Text:
    """The `Text` that `to_plain` took apart.

    Raises:
        ValueError: the data is of a kind that this version does not know, or is not what was taken apart.
    """
    kind = plain.get("class")
    if kind not in _FROM_PLAIN:
        raise ValueError(f"Unknown kind of text {kind!r}. Known: {', '.join(sorted(_FROM_PLAIN))}.")
    text = _FROM_PLAIN[kind](plain, Normalisation(**plain["normalisation"]))
    if text.fingerprint != plain["fingerprint"]:
        raise ValueError(
            f"This vocabulary ({kind}, {text.vocabulary_size} pieces) has the fingerprint {text.fingerprint}, but was stored "
            f"with {plain['fingerprint']}: it has been changed since. Take it from the checkpoint or the run it came from."
        )
    return text
