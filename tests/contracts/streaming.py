"""A small application over long streams, which carries its state from chunk to chunk: the contracts see it as any other.

Each step's target is a slowly fading sum of the inputs so far, so that a state that is lost or mixed up shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from core.nn.losses import MeanOver, SummedLoss, squared_error, summed_loss
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.cli import Application
from core.training.command.finished_run import FinishedRun
from core.training.module import ApplicationModule
from core.training.optimisation import Constant, Cosine, OptimizerConfig, ScheduleConfig
from core.training.truncated_bptt import StreamStates, counted_steps, run_streams
from core.training.watching.workload import Workload
from data.batching import Piece
from data.module import LoaderConfig, PlannedDataModule
from data.streams import ChunkConfig, Chunks, StreamChunk, StreamPlan
from tests.contracts.case import Case, Run

LENGTHS = {"train": [37, 9, 64, 64, 1, 23, 64, 50, 12, 41, 5, 33], "validation": [30, 7, 19], "test": [26, 41, 3, 18]}
FEATURES = 2


class StreamBatch(NamedTuple):
    """A piece of chunks."""

    inputs: Tensor
    target: Tensor
    chunk: StreamChunk
    weight: Tensor


class Streams:
    """The chunks of one part as a data set."""

    def __init__(self, lengths: list[int], *, config: ChunkConfig, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.chunks = Chunks(lengths, config=config)
        self.inputs = generator.normal(size=(sum(lengths), FEATURES)).astype(np.float32)
        ends, level = set(np.cumsum(lengths) - 1), 0.0
        self.target = np.empty((sum(lengths), 1), np.float32)
        for step, value in enumerate(self.inputs[:, 0] * self.inputs[:, 1]):
            level = 0.95 * level + value
            self.target[step] = level
            level = 0.0 if step in ends else level

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def lengths(self) -> np.ndarray:
        return self.chunks.lengths

    def batch(self, piece: Piece) -> StreamBatch:
        dtype = torch.get_default_dtype()
        return StreamBatch(
            self.chunks.gather(self.inputs, piece).to(dtype),
            self.chunks.gather(self.target, piece).to(dtype),
            self.chunks.of(piece),
            torch.full((len(piece.indices),), piece.weight),
        )


class StreamingData(PlannedDataModule):
    def __init__(
        self,
        *,
        chunks: ChunkConfig,
        batch_size: int = 5,
        seed: int = 0,
        loader: LoaderConfig = LoaderConfig(),
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed, loader=loader)
        self.chunks = chunks

    def dataset(self, part: str) -> Streams:
        # Without gradients an overlap would only be computed twice.
        config = self.chunks if part == "train" else replace(self.chunks, shift=None)
        return Streams(LENGTHS[part], config=config, seed=list(LENGTHS).index(part))

    def plan(self, part: str) -> StreamPlan:
        assert self.batch_size is not None
        return StreamPlan(
            self.dataset(part).chunks, batch_size=self.batch_size, shuffle=part == "train", seed=self.seed
        )

    def preprocessing(self) -> dict[str, Any]:
        return {"num_features": FEATURES}

    def settings(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "seed": self.seed, "chunks": to_plain(self.chunks)}


class StreamingNetwork(nn.Module):
    def __init__(self, config: RecurrentConfig, *, num_features: int) -> None:
        super().__init__()
        self.recurrent = Recurrent(config, input_size=num_features)
        self.head = nn.Linear(config.output_size, 1)

    def forward(self, batch: StreamBatch, states: StreamStates) -> Tensor:
        outputs: Tensor = self.head(run_streams(self.recurrent, batch.inputs, chunk=batch.chunk, states=states))
        return outputs


class StreamingModule(ApplicationModule):
    application: ClassVar[str] = "streaming"
    unit: ClassVar[str] = "steps"
    network: StreamingNetwork | None

    def __init__(
        self,
        *,
        recurrent: RecurrentConfig,
        loss_mean: MeanOver = "token",
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule, seed=seed)
        self.recurrent = recurrent
        self.loss_mean: MeanOver = loss_mean

    def build_network(self, preprocessing: Mapping[str, Any]) -> StreamingNetwork:
        return StreamingNetwork(self.recurrent, num_features=preprocessing["num_features"])

    def _loss(self, batch: StreamBatch, states: StreamStates) -> SummedLoss:
        assert self.network is not None
        outputs = self.network(batch, states)
        mask = counted_steps(batch.chunk, outputs.shape[1]).unsqueeze(-1)
        losses = squared_error(outputs, batch.target, mask=mask)
        return summed_loss(losses, mask=mask, mean=self.loss_mean, weight=batch.weight)

    def workload(self, batch: StreamBatch) -> Workload:
        return Workload.of_lengths(batch.chunk.lengths, size=batch.inputs.shape[1], weight=batch.weight)

    def training_loss(self, batch: StreamBatch) -> SummedLoss:
        return self._loss(batch, self.training_states)

    def evaluation_values(self, batch: StreamBatch) -> dict[str, SummedLoss]:
        return {"loss": self._loss(batch, self.evaluation_states)}

    def settings(self) -> dict[str, Any]:
        return {"recurrent": to_plain(self.recurrent), "loss_mean": self.loss_mean, **self._optimisation_settings()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(
            recurrent=from_plain(RecurrentConfig, settings["recurrent"]),
            loss_mean=settings["loss_mean"],
            **cls._optimisation_from(settings),
        )


def _make(
    folder: Path,
    *,
    variant: str = "lstm",
    dropout: float = 0.0,
    num_workers: int = 0,
    batch_size: int = 5,
    optimizer: OptimizerConfig | None = None,
) -> Run:
    module = StreamingModule(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=6, num_layers=2, dropout=dropout, learn_initial_state=True)
        if variant == "lstm"
        else RecurrentConfig(kind="gru", hidden_size=4),
        optimizer=optimizer or OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Cosine(),
        seed=3,
    )
    data = StreamingData(
        chunks=ChunkConfig(chunk_size=8, shift=5),
        batch_size=batch_size,
        loader=LoaderConfig(num_workers=num_workers),
        seed=3,
    )
    return Run(module, data)


CONFIG = """
seed_everything: 3
data:
  chunks: {chunk_size: 8, shift: 5}
  batch_size: 5
model:
  recurrent: {kind: lstm, hidden_size: 6}
  optimizer: {name: sgd, lr: 0.1}
checkpoint: {every_n_steps: 3, every_minutes: null}
baseline: {enabled: false}
trainer:
  accelerator: cpu
  precision: 64-true
  max_epochs: 2
  enable_progress_bar: false
  gradient_clip_val: 0.5
  log_every_n_steps: 1
"""


def _not_here(*_: Any, **__: Any) -> Any:
    raise ValueError("This application is trained and tested alone.")


def predict(*, ckpt_path: str, input: str, output: str) -> None:
    """Not part of this application."""
    _not_here()


def report(run: FinishedRun) -> None:
    """Nothing beside the metrics."""


APPLICATION = Application(
    name="streaming",
    module=StreamingModule,
    data=StreamingData,
    predict=predict,
    baseline=_not_here,
    report=report,
)

STREAMING = Case(
    name="streaming",
    entry=APPLICATION,
    make=_make,
    variants=("lstm", "gru"),
    config=lambda folder: CONFIG,
    pad=_not_here,
    select=_not_here,
    predict_args=_not_here,
)
