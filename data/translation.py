"""Sentences and their translations in batches, with the vocabularies learnt from the training part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.batching import BatchPlan, Indices
from data.module import LoaderConfig, PlannedDataModule, notify
from data.parallel.batches import PairDataset, Side, TranslationBatch
from data.parallel.reading import PARTS, CorpusConfig, ParallelText
from data.paths import cache_folder
from data.text import BPE, BPEText, Text, TextConfig, Unigram, Words, load_text
from data.tokenisation.cache import cached_text
from data.tokenisation.dropout import DroppedSentences
from data.tokenisation.vectors import WordVectors, read_vectors

__all__ = ["PairDataset", "TranslationBatch", "TranslationData"]

SUBWORDS = BPE()
SIDES = ("source", "target")


class TranslationData(PlannedDataModule):
    """Pairs of sentences as batches of tokens."""

    def __init__(
        self,
        corpus: CorpusConfig,
        *,
        source: str,
        target: str,
        text: TextConfig = SUBWORDS,
        target_text: TextConfig | None = None,
        shared_vocabulary: bool = True,
        token_budget: int | None = None,
        batch_size: int | None = None,
        max_length: int = 100,
        max_length_ratio: float | None = None,
        empty: Literal["error", "drop"] = "error",
        loader: LoaderConfig = LoaderConfig(),
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        """Pairs of sentences as batches of tokens.

        Args:
            corpus: where the pairs are: TextFiles, Table or HuggingFace.
            source: code of the language to translate from.
            target: code of the language to translate to.
            text: how sentences are split into tokens: BPE, Unigram or Words.
            target_text: the same for the target; needs shared_vocabulary: false. None: as text.
            shared_vocabulary: learn one vocabulary from both sides, so that embeddings can be shared.
            token_budget: padded steps of an optimiser step's longer side, over all processes and accumulated pieces: its
                longest sentence times its number of pairs. Exactly one of token_budget and batch_size is given.
            batch_size: pairs an optimiser step.
            max_length: tokens a side of a training pair may have; longer pairs are left out, and counted.
            max_length_ratio: times that one side of a training pair may be longer than the other; others are left out, and
                counted. None: no limit.
            empty: what a pair with an empty side is: an error, or left out of training and kept in evaluation (drop).
            loader: how batches are brought to the network.
            cache_dir: where vocabularies and prepared files are kept. None: UNROLL_CACHE, or the user's cache folder.
            seed: seed of the order of pairs, and of BPE-dropout.
        """
        super().__init__(batch_size=batch_size, seed=seed, loader=loader, token_budget=token_budget)
        _check(source, target, batch_size, token_budget, max_length, max_length_ratio)
        if target_text is not None and shared_vocabulary:
            raise ValueError(
                "data.target_text is given, but with data.shared_vocabulary both sides are split as data.text says. Set "
                "shared_vocabulary: false, or leave target_text out."
            )
        if empty not in ("error", "drop"):
            raise ValueError(f"data.empty is {empty!r}. Known: error, drop.")
        self.corpus = corpus
        self.languages = {"source": source, "target": target}
        self.text = {"source": text, "target": target_text or text}
        self.shared_vocabulary = shared_vocabulary
        self.max_length = max_length
        self.max_length_ratio = max_length_ratio
        self.empty = empty
        self.cache_dir = cache_dir
        self._texts: dict[str, Text] = {}
        self._read: dict[str, ParallelText] = {}
        self._fingerprints: dict[str, str] = {}
        self._datasets: dict[str, PairDataset] = {}

    def prepare_data(self) -> None:
        """Learn the vocabularies once, on the first process, so that the others find them in the cache."""
        self._learn()

    def setup(self, stage: str) -> None:
        """Have the vocabularies ready, and the parts that a stage needs: `fit`, `validate`, `test` or `predict`."""
        self._learn()
        for part in {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}.get(stage, ()):
            self.dataset(part)
        self._read.pop("train", None)  # millions of strings that nobody needs again

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Take the vocabularies of a checkpoint, before `setup`, instead of learning others.

        A network is of use with the vocabulary that it was trained with alone: for testing, which then needs no training
        part, and for fine-tuning on another corpus.

        Raises:
            ValueError: the checkpoint is of other languages.
        """
        assert not self._texts, "vocabularies are adopted before they are learnt"
        languages = dict(preprocessing["languages"])
        if languages != self.languages:
            raise ValueError(
                f"The checkpoint translates from {languages['source']!r} to {languages['target']!r}, but data.source is "
                f"{self.languages['source']!r} and data.target {self.languages['target']!r}. Set them to the checkpoint's."
            )
        source = load_text(preprocessing["source_text"])
        shared = preprocessing["target_text"] is None
        self._texts = {"source": source, "target": source if shared else load_text(preprocessing["target_text"])}
        notify("The vocabulary is that of the checkpoint; what data.text says of it is not read.")

    def _learn(self) -> None:
        if self._texts:
            return
        pairs = self._pairs("train")
        folder = Path(self.cache_dir) if self.cache_dir else cache_folder()
        if self.shared_vocabulary:
            # In the order of their codes: both directions of a pair of languages have the same vocabulary.
            sides = sorted(SIDES, key=self.languages.__getitem__)
            shared = self._text(self.text["source"], [line for side in sides for line in getattr(pairs, side)], folder)
            self._texts = dict.fromkeys(SIDES, shared)
        else:
            self._texts = {side: self._text(self.text[side], getattr(pairs, side), folder) for side in SIDES}

    def _text(self, config: TextConfig, lines: Sequence[str], folder: Path) -> Text:
        content = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        text = cached_text(config, content=content, folder=folder, build=lambda: config.build(lines))
        if isinstance(config, BPE | Unigram) and text.vocabulary_size < config.vocabulary_size:
            notify(
                f"The training text gives a vocabulary of {text.vocabulary_size} pieces, fewer than vocabulary_size="
                f"{config.vocabulary_size}."
            )
        return text

    def _pairs(self, part: str) -> ParallelText:
        if part not in self._read:
            cache_dir = self.cache_dir or str(cache_folder())
            pairs = self.corpus.read(part, **self.languages, cache_dir=cache_dir)
            self._check_empty(part, pairs)
            self._fingerprints[part] = pairs.fingerprint
            self._read[part] = pairs
        return self._read[part]

    def _check_empty(self, part: str, pairs: ParallelText) -> None:
        empty = pairs.without_words().tolist()
        if not empty:
            return
        what = f"{part}: {len(empty)} of {len(pairs)} pairs have an empty side: {pairs.place.of(empty)}."
        if self.empty == "error":
            raise ValueError(
                f"{what} Fill or remove them (in both files), or set data.empty: drop, which leaves them out of training and "
                "keeps them in evaluation."
            )
        notify(f"{what} {'Left out.' if part == 'train' else 'Kept.'}")

    @property
    def source_text(self) -> Text:
        """The vocabulary of the source, after `setup`."""
        return self._texts["source"]

    @property
    def target_text(self) -> Text:
        """The vocabulary of the target, after `setup`; the same object where it is shared."""
        return self._texts["target"]

    def has_word_vectors(self, side: Literal["source", "target"]) -> bool:
        """Whether the config names vectors for the embedding of a side."""
        config = self.text[side]
        return isinstance(config, Words) and config.vectors is not None

    def word_vectors(self, side: Literal["source", "target"]) -> WordVectors | None:
        """The vectors that the embedding of a side begins with, after `setup`; None where the config names none."""
        config = self.text[side]
        if not isinstance(config, Words) or config.vectors is None:
            return None
        vectors = read_vectors(config.vectors, pieces=self._texts[side].pieces, cache_dir=self.cache_dir)
        notify(f"{config.vectors}: vectors for {vectors.share_found:.0%} of the words of the {side} vocabulary.")
        return vectors

    def dataset(self, part: str) -> PairDataset:
        """The pairs of `train`, `validation` or `test`, after `setup`; none is left out in evaluation."""
        assert part in PARTS
        if part not in self._datasets:
            pairs = self._pairs(part)
            sides = [self._encoded(side, getattr(pairs, side), training=part == "train") for side in SIDES]
            rows = self._kept(pairs, *sides) if part == "train" else np.arange(len(pairs))
            self._datasets[part] = PairDataset(*sides, rows=rows)
        return self._datasets[part]

    def _encoded(self, side: str, lines: Sequence[str], *, training: bool) -> Side:
        text, config = self._texts[side], self.text[side]
        dropout = config.dropout if isinstance(config, BPE) else 0.0
        if training and dropout and isinstance(text, BPEText):
            return DroppedSentences(text, lines, dropout=dropout, seed=self.seed, stream=SIDES.index(side))
        return text.encode_flat(lines)

    def _kept(self, pairs: ParallelText, source: Side, target: Side) -> Indices:
        lengths = np.stack([source.lengths, target.lengths])
        kept = np.ones(len(pairs), bool)
        kept[pairs.without_words()] = False  # said already
        long = kept & (lengths.max(axis=0) > self.max_length)
        uneven = np.zeros_like(kept)
        if self.max_length_ratio is not None:
            uneven = kept & ~long & (lengths.max(axis=0) > self.max_length_ratio * np.maximum(lengths.min(axis=0), 1))
        kept &= ~(long | uneven)
        reasons = [
            f"{count} {reason}"
            for count, reason in (
                (long.sum(), f"longer than data.max_length={self.max_length} tokens"),
                (uneven.sum(), f"beyond data.max_length_ratio={self.max_length_ratio}"),
            )
            if count
        ]
        said = f"{pairs.place.name}: of {len(pairs)} training pairs, left out are {' and '.join(reasons)}."
        if not kept.any():
            raise ValueError(f"{said if reasons else pairs.place.name + ':'} No pair to train on is left.")
        if reasons:
            notify(said)
        return np.flatnonzero(kept)

    def sources(self, part: str) -> list[str]:
        """The sentences to translate of a part, as read."""
        return self._pairs(part).source

    def references(self, part: str) -> list[str]:
        """The translations of a part, as read: what a translation is measured against."""
        return self._pairs(part).target

    def plan(self, part: str) -> BatchPlan:
        """The batch plan of a part; in evaluation a sentence longer than the token budget has a batch of its own."""
        dataset, training = self.dataset(part), part == "train"
        budget = self.token_budget
        if budget is not None and not training:
            budget = max(budget, int(dataset.lengths.max()))
        return BatchPlan(
            len(dataset),
            batch_size=self.batch_size,
            token_budget=budget,
            lengths=dataset.lengths,
            lengths_in=dataset.lengths_in if training else None,
            shuffle=training,
            seed=self.seed,
        )

    def preprocessing(self) -> dict[str, Any]:
        """What translating new text needs: languages, vocabularies, and the longest sentence that was trained on."""
        shared = self.target_text is self.source_text
        return {
            "languages": dict(self.languages),
            "source_text": self.source_text.to_plain(),
            "target_text": None if shared else self.target_text.to_plain(),
            "max_length": self.max_length,
        }

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share; the content of the training part by its fingerprint, wherever it lies now."""
        return {
            "languages": dict(self.languages),
            "text": {side: self.text[side].to_plain() for side in SIDES},
            "dropout": {side: getattr(self.text[side], "dropout", 0.0) for side in SIDES},
            "shared_vocabulary": self.shared_vocabulary,
            "batch_size": self.batch_size,
            "token_budget": self.token_budget,
            "max_length": self.max_length,
            "max_length_ratio": self.max_length_ratio,
            "empty": self.empty,
            "seed": self.seed,
            # None where a test has done without the training part.
            "sentences of the training part": self._fingerprints.get("train"),
        }


def _check(
    source: str,
    target: str,
    batch_size: int | None,
    token_budget: int | None,
    max_length: int,
    max_length_ratio: float | None,
) -> None:
    if source == target:
        raise ValueError(f"data.source and data.target are both {source!r}: name the two languages of the corpus.")
    if (batch_size is None) == (token_budget is None):
        raise ValueError(
            f"Give either data.batch_size (pairs) or data.token_budget (padded steps), got {batch_size} and {token_budget}."
        )
    if max_length < 1:
        raise ValueError(f"data.max_length must be at least 1 token, got {max_length}.")
    if token_budget is not None and token_budget <= max_length:
        raise ValueError(
            f"data.token_budget is {token_budget}, but a training pair may have data.max_length={max_length} tokens and one "
            "for its end. Raise token_budget or lower max_length."
        )
    if max_length_ratio is not None and max_length_ratio < 1:
        raise ValueError(f"data.max_length_ratio must be at least 1, or null for no limit, got {max_length_ratio}.")
