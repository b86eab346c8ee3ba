"""Translation, as the contracts see it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.translation.__main__ import TRANSLATION as COMMAND
from apps.translation.baseline import BagOfWordsBaseline
from apps.translation.module import TranslationModule
from apps.translation.network import NetworkConfig, RecurrentTranslator
from core.nn.attention import Additive, General
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FixedContext,
)
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from core.nn.teacher_forcing import AlwaysTrue, ScheduledSamplingLinear
from core.training.optimisation import Cosine, OptimizerConfig
from data.module import LoaderConfig
from data.parallel.reading import TextFiles
from data.text import BPE, Words
from data.translation import TranslationBatch, TranslationData
from tests.contracts.case import Case, Run

PAIRS = {"train": 61, "val": 11, "test": 13}
ENGLISH = ("the", "small", "red", "house", "smallest", "horse", "sees", "seas", "reads", "and", "never", "now")
SPANISH = ("la", "pequeña", "roja", "casa", "mínima", "jaca", "mira", "mares", "lee", "y", "nunca", "ahora")
DICTIONARY = dict(zip(ENGLISH, SPANISH, strict=True))


def write_corpus(folder: Path) -> Path:
    """Sentences of 1 to 4 words and their translations word by word, in the opposite order."""
    path = folder / "corpus"
    if path.exists():
        return path
    path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, number in PAIRS.items():
        sources = [
            "the",  # the shortest first, or a batch that is chosen at random might hold nothing short
            *(" ".join(generator.choice(ENGLISH, size)) for size in generator.integers(1, 5, number - 1)),
        ]
        targets = [" ".join(DICTIONARY[word] for word in reversed(source.split())) for source in sources]
        for language, lines in (("en", sources), ("es", targets)):
            (path / f"{part}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


CONTEXTS: dict[str, ContextConfig] = {
    "before": AttentionBefore(attention=Additive(num_hidden=5)),
    "after": AttentionAfter(attention=General()),
    "between": AttentionBetween(attention=Additive(num_hidden=5)),
    "fixed": FixedContext(),
}
WITH_WORDS = ("after", "fixed")


def _network(variant: str, dropout: float) -> NetworkConfig:
    if variant == "bag_of_words":
        return BagOfWordsBaseline(embedding_size=5, feed_forward=FeedForwardConfig(hidden_sizes=[8], dropout=dropout))
    kind = "lstm" if variant in WITH_WORDS else "gru"
    num_layers = 2 if variant == "between" else 1
    return RecurrentTranslator(
        encoder=RecurrentConfig(kind=kind, hidden_size=5, bidirectional=variant != "fixed"),
        decoder=DecoderConfig(
            recurrent=RecurrentConfig(kind=kind, hidden_size=6, num_layers=num_layers),
            context=CONTEXTS[variant],
            readout="attentional" if variant == "after" else "deep",
            readout_dropout=dropout,
        ),
        embedding_size=6,
        embedding_dropout=dropout,
        encoder_dropout=dropout,
        share_embeddings=variant == "between",
    )


def _make(
    folder: Path,
    *,
    variant: str = "before",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 10,
    optimizer: OptimizerConfig | None = None,
) -> Run:
    """With dropout, words are split otherwise in every epoch, and the decoder often reads what it has said itself."""
    noisy = dropout > 0 and variant != "bag_of_words"
    search = BeamConfig(beam_size=1, max_length=6)
    module = TranslationModule(
        network=_network(variant, dropout),
        teacher_forcing=ScheduledSamplingLinear(slope=0.05, start=0.9) if noisy else AlwaysTrue(),
        label_smoothing=0.1,
        search=search,
        validation_search=search,
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    words = variant in WITH_WORDS
    data = TranslationData(
        TextFiles(path=str(write_corpus(folder))),
        source="en",
        target="es",
        text=Words(min_frequency=1) if words else BPE(vocabulary_size=90, dropout=dropout / 3),
        shared_vocabulary=not words,
        batch_size=batch_size,
        cache_dir=str(folder / "cache"),
        loader=LoaderConfig(num_workers=num_workers),
        seed=3,
    )
    return Run(module, data)


def _config(folder: Path) -> str:
    return f"""
seed_everything: 3
data:
  corpus:
    class_path: TextFiles
    init_args: {{path: {write_corpus(folder)}}}
  source: en
  target: es
  text:
    class_path: BPE
    init_args: {{vocabulary_size: 90}}
  cache_dir: {folder / "cache"}
  batch_size: 10
model:
  network:
    class_path: RecurrentTranslator
    init_args:
      embedding_size: 6
      encoder: {{kind: gru, hidden_size: 5, bidirectional: true}}
      decoder:
        recurrent: {{kind: gru, hidden_size: 6}}
        context:
          class_path: AttentionAfter
          init_args:
            attention: {{class_path: General}}
        readout: attentional
  search: {{beam_size: 2, max_length: 6}}
  validation_search: {{beam_size: 1, max_length: 6}}
  optimizer: {{name: sgd, lr: 0.1}}
checkpoint: {{every_n_steps: 3, every_minutes: null}}
baseline: {{enabled: false}}
trainer:
  accelerator: cpu
  precision: 64-true
  max_epochs: 2
  enable_progress_bar: false
  gradient_clip_val: 0.5
  log_every_n_steps: 1
"""


def _pad(batch: TranslationBatch, extra: int, junk: float) -> TranslationBatch:
    # What is no number stands for what is no piece.
    token = int(junk) if math.isfinite(junk) else -1 if math.isnan(junk) else 2**62

    def padded(tokens: Tensor, lengths: Tensor) -> Tensor:
        padding = torch.arange(tokens.shape[1] + extra) >= lengths.unsqueeze(1)
        return torch.nn.functional.pad(tokens, (0, extra)).masked_fill(padding, token)

    return batch._replace(
        source=padded(batch.source, batch.source_lengths),
        target=padded(batch.target, batch.target_lengths),
        labels=padded(batch.labels, batch.target_lengths),
    )


def _select(batch: TranslationBatch, indices: Tensor) -> TranslationBatch:
    chosen = TranslationBatch(*[part[indices] for part in batch])
    source_size, target_size = int(chosen.source_lengths.max()), int(chosen.target_lengths.max())
    return chosen._replace(
        source=chosen.source[:, :source_size],
        target=chosen.target[:, :target_size],
        labels=chosen.labels[:, :target_size],
    )


def _predict_args(folder: Path) -> list[str]:
    return ["--input", str(write_corpus(folder) / "test.en"), "--output", str(folder / "out.txt")]


TRANSLATION = Case(
    name="translation",
    entry=COMMAND,
    make=_make,
    variants=("before", "after", "between", "fixed", "bag_of_words"),
    config=_config,
    pad=_pad,
    select=_select,
    predict_args=_predict_args,
    lengths=lambda batch: batch.source_lengths,
    rows_file="test_translations.jsonl",
    # Generated text is what translation adds; steps and signals are those of forecasting.
    process_tests=("test_two_processes_measure_what_one_does",),
)
