"""Captioning, as the contracts see it: a first epoch on cached features, then the encoder with the decoder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.captioning.__main__ import CAPTIONING as COMMAND
from apps.captioning.baseline import PooledBaseline
from apps.captioning.module import CaptioningModule
from apps.captioning.network import NetworkConfig, RecurrentCaptioner
from apps.captioning.stages import Stage
from core.nn.attention import Additive
from core.nn.decoders.decoder_config import AttentionBefore, ContextConfig, DecoderConfig, FixedContext, TopDown
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from core.nn.teacher_forcing import AlwaysTrue, ScheduledSamplingLinear
from core.nn.vision import ImageEncoderConfig
from core.training.optimisation import Cosine, OptimizerConfig
from data.captioning import CaptionBatch, CaptioningData
from data.captions.reading import Karpathy
from data.images.transforms import ImageTransform
from data.module import LoaderConfig
from data.text import Words
from tests.contracts.case import Case, Run

IMAGES = {"train": 47, "val": 11, "test": 10}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "white": (245, 245, 245)}


def write_corpus(folder: Path) -> Path:
    """Pictures of two colours, top and bottom, with 1 to 3 captions of 1 to 5 words."""
    from PIL import Image

    path = folder / "corpus"
    if path.exists():
        return path
    (path / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    entries = []
    for split, number in IMAGES.items():
        for _ in range(number):
            top, bottom = generator.choice(list(COLOURS), 2)
            pixels = np.empty((20, 24, 3), np.uint8)
            pixels[:10], pixels[10:] = COLOURS[top], COLOURS[bottom]
            name = f"{len(entries):03}.png"
            Image.fromarray(pixels).save(path / "images" / name)
            said = [f"{top} above {bottom}", f"{bottom} lies below the {top}", str(top)]
            sentences = [{"raw": one} for one in said[: int(generator.integers(1, 4))]]
            entries.append({"filename": name, "split": split, "sentences": sentences})
    (path / "dataset.json").write_text(json.dumps({"images": entries, "dataset": "colours"}))
    return path


CONTEXTS: dict[str, ContextConfig] = {
    "attend": AttentionBefore(attention=Additive(num_hidden=5), gated=True),
    "top_down": TopDown(attention=Additive(num_hidden=5)),
    "tell": FixedContext(),
}


def _network(variant: str, dropout: float) -> NetworkConfig:
    encoder = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
    if variant == "pooled":
        hidden = FeedForwardConfig(hidden_sizes=[8], dropout=dropout)
        return PooledBaseline(encoder=encoder, place_size=6, feed_forward=hidden)
    return RecurrentCaptioner(
        encoder=encoder,
        decoder=DecoderConfig(
            recurrent=RecurrentConfig(kind="lstm", hidden_size=6, num_layers=2 if variant == "top_down" else 1),
            context=CONTEXTS[variant],
            readout="deep" if variant == "attend" else "attentional",
            readout_dropout=dropout,
        ),
        region_size=5,
        region_dropout=dropout,
        region_places=variant == "attend",
        embedding_size=6,
        embedding_dropout=dropout,
    )


def _make(
    folder: Path,
    *,
    variant: str = "attend",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 8,
    optimizer: OptimizerConfig | None = None,
    loss_mean: str = "token",
) -> Run:
    """With dropout, images are mirrored, captions are chosen, and the decoder often reads what it has said itself."""
    noisy, attends = dropout > 0, variant in ("attend", "top_down")
    search = BeamConfig(beam_size=1, max_length=7)
    module = CaptioningModule(
        network=_network(variant, dropout),
        stages=[Stage(epochs=1), Stage(epochs=1, lr=0.005, encoder_lr=0.002)],
        teacher_forcing=ScheduledSamplingLinear(slope=0.05, start=0.9)
        if noisy and variant != "pooled"
        else AlwaysTrue(),
        label_smoothing=0.1,
        doubly_stochastic=0.3 if attends else 0.0,
        loss_mean=loss_mean,  # type: ignore[arg-type]
        search=search,
        validation_search=search,
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    data = CaptioningData(
        Karpathy(path=str(write_corpus(folder))),
        text=Words(min_frequency=1, tokeniser="unpunctuated"),
        transform=ImageTransform(size=16, fit="stretch", flip=noisy, colour_jitter=dropout),
        captions_per_image=2 if noisy else None,
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
    class_path: Karpathy
    init_args: {{path: {write_corpus(folder)}}}
  text:
    class_path: Words
    init_args: {{min_frequency: 1, tokeniser: unpunctuated}}
  transform: {{size: 16, fit: stretch}}
  cache_dir: {folder / "cache"}
  batch_size: 8
model:
  network:
    class_path: RecurrentCaptioner
    init_args:
      encoder: {{backbone: small_cnn, weights: null, trainable: all}}
      region_size: 5
      embedding_size: 6
      decoder:
        recurrent: {{kind: lstm, hidden_size: 6}}
        context:
          class_path: AttentionBefore
          init_args:
            attention: {{class_path: Additive, init_args: {{num_hidden: 5}}}}
            gated: true
        readout: deep
  stages:
    - {{epochs: 1}}
    - {{epochs: 1, encoder_lr: 0.01}}
  search: {{beam_size: 2, max_length: 7}}
  validation_search: {{beam_size: 1, max_length: 7}}
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


def _pad(batch: CaptionBatch, extra: int, junk: float) -> CaptionBatch:
    # What is no number stands for what is no word.
    token = int(junk) if math.isfinite(junk) else -1 if math.isnan(junk) else 2**62
    padding = torch.arange(batch.captions.shape[1] + extra) >= batch.lengths.unsqueeze(1)

    def padded(tokens: Tensor) -> Tensor:
        return torch.nn.functional.pad(tokens, (0, extra)).masked_fill(padding, token)

    return batch._replace(captions=padded(batch.captions), labels=padded(batch.labels))


def _select(batch: CaptionBatch, indices: Tensor) -> CaptionBatch:
    each = len(batch.captions) // len(batch.index)
    rows = (each * indices.unsqueeze(1) + torch.arange(each)).flatten()
    longest = int(batch.lengths[rows].max())
    return CaptionBatch(
        images=None if batch.images is None else batch.images[indices],
        features=None if batch.features is None else batch.features[indices],
        captions=batch.captions[rows, :longest],
        labels=batch.labels[rows, :longest],
        lengths=batch.lengths[rows],
        index=batch.index[indices],
        weight=batch.weight[indices],
    )


def _lengths(batch: CaptionBatch) -> Tensor:
    """Words and ends of all captions of each image."""
    return batch.lengths.reshape(len(batch.index), -1).sum(1)


def _predict_args(folder: Path) -> list[str]:
    return ["--input", str(write_corpus(folder) / "images"), "--output", str(folder / "out.jsonl")]


CAPTIONING = Case(
    name="captioning",
    entry=COMMAND,
    make=_make,
    variants=("attend", "top_down", "tell", "pooled"),
    config=_config,
    pad=_pad,
    select=_select,
    predict_args=_predict_args,
    lengths=_lengths,
    rows_file="test_captions.jsonl",
    # The cache that one process fills and both read, and generated captions, are what captioning adds.
    process_tests=("test_two_processes_measure_what_one_does", "test_two_processes_take_the_steps_of_one"),
)
