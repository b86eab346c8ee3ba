"""Pieces of words: byte-pair encoding and the unigram model, through the package `tokenizers`."""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from data.tokenisation.base import SPECIALS, UNK, Text, TextConfig
from data.tokenisation.normalisation import COMPOSED, SPACE_MARK, Normalisation

NUM_SPECIALS = len(SPECIALS)
# A name that no text can spell, because words hold no space.
_UNKNOWN = " unknown"


@dataclass(frozen=True)
class BPE(TextConfig):
    """Byte-pair encoding: the pairs of pieces that follow each other most often become pieces.

    Every character of the training text is a piece, one that it lacks becomes `<unk>` (there is no fall-back to bytes, whose
    256 numbers a small vocabulary would miss). A space is part of the piece that follows it, so that text comes back.
    Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016.
    """

    vocabulary_size: int = 8000
    """Pieces, the four special tokens included; fewer where the text has no more."""
    dropout: float = 0.0
    """Probability that a merge is left out where training text is split, anew in every epoch (BPE-dropout); 0 splits a word
    always alike. 0.1 is usual for small corpora."""
    normalisation: Normalisation = COMPOSED
    """What happens to a line first."""

    def __post_init__(self) -> None:
        _check_size(self.vocabulary_size)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of BPE is a probability below 1, got {self.dropout}.")

    def build(self, lines: Sequence[str]) -> BPEText:
        """Learn the merges of these lines."""
        from tokenizers import models, trainers

        tokeniser = _tokeniser(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=self.vocabulary_size - NUM_SPECIALS, show_progress=False)
        tokeniser.train_from_iterator(_evened(self, lines), trainer=trainer)
        model = json.loads(tokeniser.to_str())["model"]
        number = {piece: NUM_SPECIALS + place for piece, place in model["vocab"].items()}
        merges = np.array([[number[left], number[right]] for left, right in model["merges"]], np.int32).reshape(-1, 2)
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return BPEText(pieces, merges=merges, normalisation=self.normalisation)

    def to_plain(self) -> dict[str, Any]:
        """Not dropout, which the vocabulary does not depend on."""
        settings = asdict(self)
        del settings["dropout"]
        return {"class": "BPE", **settings}


@dataclass(frozen=True)
class Unigram(TextConfig):
    """The unigram model: the pieces whose probabilities explain the text best.

    Learnt by `sentencepiece`, on one thread, because the trainer of `tokenizers` gives other last digits, and with them
    another order, each time; characters and spaces as in BPE.
    Source: Kudo, "Subword Regularization", ACL 2018.
    """

    vocabulary_size: int = 8000
    """Pieces, the four special tokens included; fewer where the text has no more."""
    normalisation: Normalisation = COMPOSED
    """What happens to a line first."""

    def __post_init__(self) -> None:
        _check_size(self.vocabulary_size)

    def build(self, lines: Sequence[str]) -> UnigramText:
        """Learn the pieces of these lines, and their log-probabilities."""
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_evened(self, lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=self.vocabulary_size - NUM_SPECIALS + 1,  # its own <unk>
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=2**30,  # longer ones would be left out
            num_threads=1,
            minloglevel=2,
        )
        learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        numbers = [number for number in range(learnt.get_piece_size()) if not learnt.is_unknown(number)]
        return UnigramText(
            [learnt.id_to_piece(number) for number in numbers],
            scores=np.array([learnt.get_score(number) for number in numbers], np.float64),
            normalisation=self.normalisation,
        )

    def to_plain(self) -> dict[str, Any]:
        """All of it."""
        return {"class": "Unigram", **asdict(self)}


class SubwordText(Text):
    """Text split into pieces of words by `tokenizers`."""

    @abstractmethod
    def _model(self) -> Any:
        """The model of `tokenizers`, whose number 0 is the unknown piece and k + 1 the k-th piece."""

    @cached_property
    def tokeniser(self) -> Any:
        """The `tokenizers.Tokenizer` that splits lines already normalised; its numbers are smaller than ours by `UNK`."""
        return _tokeniser(self._model())

    def split_words(self, words: list[str]) -> list[Sequence[int]]:
        """The numbers of each word's pieces."""
        return [tuple(UNK + number for number in split.ids) for split in self.tokeniser.encode_batch(words)]

    def _joined(self, tokens: list[str]) -> str:
        return "".join(tokens).replace(SPACE_MARK, " ").strip()

    def _numbered(self) -> list[str]:
        return [_UNKNOWN, *self.pieces[NUM_SPECIALS:]]


class BPEText(SubwordText):
    """Text split by byte-pair encoding.

    Args:
        pieces: the vocabulary behind the special tokens.
        merges: numbers of the two pieces of each merge, first come first merged, `int32 (num_merges, 2)`.
        normalisation: what happens to a line first.
    """

    kind = "BPE"

    def __init__(self, pieces: Sequence[str], *, merges: np.ndarray, normalisation: Normalisation) -> None:
        super().__init__(pieces, normalisation=normalisation)
        self.merges = np.asarray(merges, np.int32).reshape(-1, 2)

    def _model(self) -> Any:
        from tokenizers import models

        return models.BPE(
            vocab={piece: number for number, piece in enumerate(self._numbered())},
            merges=[(self.pieces[left], self.pieces[right]) for left, right in self.merges.tolist()],
            unk_token=_UNKNOWN,
        )

    def characters(self, word: str) -> list[int]:
        """The numbers of a word's characters, the space before it first: what merging starts from."""
        return [self._numbers.get(character, UNK) for character in SPACE_MARK + word]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces) if number > UNK}

    @cached_property
    def ranks(self) -> dict[tuple[int, int], tuple[int, int]]:
        """For the numbers of two pieces that can be merged: which merge it is, and the number of what they become."""
        return {
            (left, right): (rank, self._numbers[self.pieces[left] + self.pieces[right]])
            for rank, (left, right) in enumerate(self.merges.tolist())
        }

    def _further(self) -> Iterable[bytes]:
        return (self.merges.tobytes(),)

    def to_plain(self) -> dict[str, Any]:
        """Pieces and merges."""
        return {**self._plain(), "merges": torch.from_numpy(self.merges.copy())}


class UnigramText(SubwordText):
    """Text split by the unigram model: into the pieces whose probabilities have the largest product.

    Args:
        pieces: the vocabulary behind the special tokens.
        scores: log-probability of each piece, `float64 (num_pieces,)`.
        normalisation: what happens to a line first.
    """

    kind = "Unigram"

    def __init__(self, pieces: Sequence[str], *, scores: np.ndarray, normalisation: Normalisation) -> None:
        super().__init__(pieces, normalisation=normalisation)
        self.scores = np.asarray(scores, np.float64)

    def _model(self) -> Any:
        from tokenizers import models

        return models.Unigram(list(zip(self._numbered(), [0.0, *self.scores.tolist()], strict=True)), unk_id=0)

    def _further(self) -> Iterable[bytes]:
        return (self.scores.tobytes(),)

    def to_plain(self) -> dict[str, Any]:
        """Pieces and log-probabilities."""
        return {**self._plain(), "scores": torch.from_numpy(self.scores.copy())}


def _check_size(vocabulary_size: int) -> None:
    if vocabulary_size <= NUM_SPECIALS:
        raise ValueError(
            f"vocabulary_size must be above {NUM_SPECIALS}, the number of special tokens, got {vocabulary_size}."
        )


def _evened(config: BPE | Unigram, lines: Sequence[str]) -> Iterator[str]:
    """The lines as they are learnt from; refuses those whose characters do not fit into the vocabulary."""
    characters = {SPACE_MARK}
    for line in lines:
        characters.update(config.normalisation(line))
    characters.discard(" ")
    if len(characters) == 1:
        raise ValueError(f"A vocabulary cannot be learnt from {len(lines)} lines without a word.")
    needed = len(characters) + NUM_SPECIALS
    if needed > config.vocabulary_size:
        raise ValueError(
            f"vocabulary_size is {config.vocabulary_size}, but the training text has {len(characters)} different characters, "
            f"each of which is a piece, beside {NUM_SPECIALS} special tokens. Raise vocabulary_size to {needed} or more, or "
            "even the text out by normalisation (unicode: nfkc, lowercase: true)."
        )
    # Evened out a second time: millions of lines would be heavy to keep.
    return map(config.normalisation, lines)


def _tokeniser(model: Any) -> Any:
    from tokenizers import Tokenizer, pre_tokenizers

    tokeniser = Tokenizer(model)
    tokeniser.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always", split=True)
    return tokeniser
