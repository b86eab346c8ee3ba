"""Video classification, as the contracts see it: a first epoch on cached features, then the encoder with all else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.video_classification.__main__ import VIDEO_CLASSIFICATION as COMMAND
from apps.video_classification.baseline import MeanBaseline
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.network import NetworkConfig
from apps.video_classification.recurrent import ConvRecurrentClassifier, RecurrentClassifier
from core.nn.convolutional import ConvRecurrentConfig
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig
from core.training.optimisation import Cosine, OptimizerConfig
from core.training.stages import TrainingStage
from data.images.transforms import ImageTransform
from data.module import LoaderConfig
from data.video_classification import VideoBatch, VideoClassificationData
from data.videos.clip_table import SplitTable
from data.videos.sampling import EveryFrame, RandomSegments
from tests.contracts.case import Case, Run
from tests.data.videos.video_files import write_video

VIDEOS = {"train": 47, "validation": 11, "test": 10}
CLASSES = ("darker", "lighter")


def write_corpus(folder: Path) -> Path:
    """Videos of 1 to 6 frames that get lighter or darker."""
    path = folder / "corpus"
    if path.exists():
        return path
    generator = np.random.default_rng(0)
    rows = ["class,file,group,subset"]
    for part, number in VIDEOS.items():
        for video in range(number):
            name = CLASSES[int(generator.integers(2))]
            num_frames = int(generator.integers(1, 7))
            levels = np.sort(generator.integers(20, 230, num_frames))
            frames = np.empty((num_frames, 24, 32, 3), np.uint8)
            frames[:] = (levels if name == "lighter" else levels[::-1])[:, None, None, None]
            frames[:, : int(generator.integers(1, 24))] //= 2
            (path / "videos" / name).mkdir(parents=True, exist_ok=True)
            write_video(path / "videos" / name / f"{part}{video}.mp4", frames)
            rows.append(f"{name},{part}{video}.mp4,{part}{video},{part}")
    (path / "split.csv").write_text("\n".join(rows) + "\n")
    return path


def _network(variant: str, dropout: float) -> NetworkConfig:
    encoder = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
    if variant == "mean":
        return MeanBaseline(encoder=encoder, feed_forward=FeedForwardConfig(hidden_sizes=[8], dropout=dropout))
    if variant == "maps":
        return ConvRecurrentClassifier(
            encoder=encoder,
            map_channels=5,
            map_dropout=dropout,
            conv_recurrent=ConvRecurrentConfig(kind="conv_gru", hidden_channels=4),
            pooling="attention",
            dropout=dropout,
        )
    return RecurrentClassifier(
        encoder=encoder,
        regions="flat",
        frame_size=6,
        frame_dropout=dropout,
        differences=True,
        recurrent=RecurrentConfig(kind="lstm", hidden_size=5, bidirectional=variant == "bidirectional"),
        pooling="last",
        dropout=dropout,
    )


def _make(
    folder: Path,
    *,
    variant: str = "vectors",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 8,
    optimizer: OptimizerConfig | None = None,
    loss_mean: str = "token",
) -> Run:
    """With dropout, frames are drawn, and videos are mirrored and coloured. The loss has one count, that of clips."""
    noisy = dropout > 0
    module = VideoClassificationModule(
        network=_network(variant, dropout),
        stages=[TrainingStage(epochs=1), TrainingStage(epochs=1, lr=0.005, encoder_lr=0.002)],
        class_weights="inverse_frequency",
        label_smoothing=0.1,
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    data = VideoClassificationData(
        SplitTable(path=str(write_corpus(folder)), validation="validation"),
        sampling=RandomSegments(num_frames=4) if noisy else EveryFrame(),
        transform=ImageTransform(size=16, fit="stretch", flip=noisy, colour_jitter=dropout),
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
    class_path: SplitTable
    init_args: {{path: {write_corpus(folder)}, validation: validation}}
  sampling: {{class_path: EveryFrame}}
  transform: {{size: 16, fit: stretch}}
  cache_dir: {folder / "cache"}
  batch_size: 8
model:
  network:
    class_path: RecurrentClassifier
    init_args:
      encoder: {{backbone: small_cnn, weights: null, trainable: all, features: grid}}
      regions: flat
      frame_size: 6
      recurrent: {{kind: gru, hidden_size: 5}}
      pooling: last
  stages:
    - {{epochs: 1}}
    - {{epochs: 1, encoder_lr: 0.01}}
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


def _pad(batch: VideoBatch, extra: int, junk: float) -> VideoBatch:
    """Features with more steps; frames as pixels have no padding, and are as they were."""
    if batch.features is None:
        return batch
    padding = torch.arange(batch.features.shape[1] + extra) >= batch.lengths.unsqueeze(1)
    padded = torch.nn.functional.pad(batch.features, (0, 0, 0, 0, 0, extra))
    return batch._replace(features=padded.masked_fill(padding[..., None, None], junk))


def _select(batch: VideoBatch, indices: Tensor) -> VideoBatch:
    images = features = None
    if batch.images is not None:
        clips = batch.images.split(batch.lengths.tolist())
        images = torch.cat([clips[index] for index in indices.tolist()])
    if batch.features is not None:
        features = batch.features[indices, : int(batch.lengths[indices].max())]
    return VideoBatch(
        images=images,
        features=features,
        lengths=batch.lengths[indices],
        labels=batch.labels[indices],
        index=batch.index[indices],
        weight=batch.weight[indices],
    )


def _predict_args(folder: Path) -> list[str]:
    return ["--input", str(write_corpus(folder) / "videos"), "--output", str(folder / "out.jsonl")]


VIDEO_CLASSIFICATION = Case(
    name="video_classification",
    entry=COMMAND,
    make=_make,
    variants=("vectors", "bidirectional", "maps", "mean"),
    config=_config,
    pad=_pad,
    select=_select,
    predict_args=_predict_args,
    rows_file="test_predictions.jsonl",
    # The cache that one process fills and both read, and accuracy of videos, are what video classification adds.
    process_tests=("test_two_processes_measure_what_one_does", "test_two_processes_take_the_steps_of_one"),
)
