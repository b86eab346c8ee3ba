"""What the DataModules of all applications share: loaders that follow the batch plan."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from data.batching import BatchPlan, Piece, PieceSampler


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are brought to the network; none of it changes a result."""

    num_workers: int = 0
    """Processes that prepare batches ahead; 0 prepares them in the training process."""
    prefetch_factor: int | None = None
    """Batches that each worker prepares ahead; needs num_workers > 0. None: two."""
    pin_memory: bool = False
    """Copy batches to page-locked memory first, which makes the transfer to a GPU asynchronous."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ValueError(f"data.loader.num_workers cannot be negative, got {self.num_workers}.")
        if self.prefetch_factor is not None and self.prefetch_factor < 1:
            raise ValueError(f"data.loader.prefetch_factor must be at least 1, got {self.prefetch_factor}.")
        if self.prefetch_factor is not None and self.num_workers == 0:
            raise ValueError(
                f"data.loader.prefetch_factor is {self.prefetch_factor}, but without workers nothing is prepared ahead. "
                "Set data.loader.num_workers to at least 1 or leave prefetch_factor out."
            )


@rank_zero_only
def notify(message: str) -> None:
    """Tell the user, once and not once a process, what was done to the data."""
    print(message, file=sys.stderr, flush=True)


class PlannedDataset(Protocol):
    """A data set that can say how long its examples are and make a batch of them."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    @property
    def lengths(self) -> npt.NDArray[np.int64] | None:
        """Valid steps of each example, or None where all are alike."""
        ...

    def batch(self, piece: Piece) -> Any:
        """The typed batch of a piece; random augmentation follows from (seed, piece.epoch, index) alone."""
        ...


class _BatchOfPiece(Dataset[Any]):
    """Hands whole pieces to a `PlannedDataset`: a few array operations make a batch, not one call an example."""

    def __init__(self, dataset: PlannedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, piece: Piece) -> Any:
        return self.dataset.batch(piece)


def _as_made(batch: Any) -> Any:
    return batch


_FOR_THE_RUN = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def _signals_kept_from_workers() -> Iterator[None]:
    """Workers that start meanwhile are sent no signal before `_leave_signals_to_the_run` has run in them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_RUN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_run(worker: int) -> None:
    """A cluster signals every process of a run, but only the run itself can save: its workers end when it does."""
    for number in _FOR_THE_RUN:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_RUN)


class PlannedLoader(DataLoader[Any]):
    """A `DataLoader` over the pieces of a plan that counts the seconds its consumer has waited."""

    wait_seconds: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        start = time.perf_counter()
        with _signals_kept_from_workers():
            batches = super().__iter__()
        self.wait_seconds += time.perf_counter() - start
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.wait_seconds += time.perf_counter() - start
            yield batch


class PlannedDataModule(pl.LightningDataModule):
    """Base of the DataModules: subclasses give the data sets, this class the loaders.

    Args:
        batch_size: examples an optimiser step sees, over all processes and accumulated pieces.
        seed: seed of the order of examples; the command line links it to `seed_everything`.
        loader: how batches are brought to the network.
        token_budget: padded steps an optimiser step, instead of a fixed number of examples.
    """

    def __init__(
        self, *, batch_size: int | None, seed: int, loader: LoaderConfig, token_budget: int | None = None
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"data.batch_size must be at least 1, got {batch_size}.")
        self.batch_size = batch_size
        self.token_budget = token_budget
        self.seed = seed
        self.loader = loader
        self._position = (0, 0)

    @abstractmethod
    def dataset(self, part: str) -> PlannedDataset:
        """The examples of `train`, `validation` or `test`."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """What a checkpoint must hold to treat new data as the training data was: plain data, ready after `setup`."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide what is learnt, as plain data: a resumed run must have the same."""

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Before `setup`: take from a checkpoint what would otherwise be learnt from the training part; nothing by default.

        Args:
            preprocessing: what `preprocessing` gave in the run that wrote the checkpoint.
        """

    def start_at(self, epoch: int, batch: int) -> None:
        """Continue training after `batch` global batches of `epoch`; called before the loaders are made."""
        self._position = (epoch, batch)

    def plan(self, part: str) -> BatchPlan:
        """The batch plan of a part: shuffled and bucketed for training, in the data's own order otherwise."""
        dataset = self.dataset(part)
        training = part == "train"
        return BatchPlan(
            len(dataset),
            batch_size=self.batch_size,
            token_budget=self.token_budget,
            lengths=dataset.lengths,
            shuffle=training,
            seed=self.seed,
        )

    def _planned_loader(self, part: str) -> PlannedLoader:
        trainer = self.trainer
        training = part == "train"
        sampler = PieceSampler(
            self.plan(part),
            num_ranks=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            accumulation=trainer.accumulate_grad_batches if trainer and training else 1,
        )
        if training:
            sampler.start_at(*self._position)
        return PlannedLoader(
            _BatchOfPiece(self.dataset(part)),
            batch_sampler=sampler,  # type: ignore[arg-type]  # pieces are richer than lists of indices
            collate_fn=_as_made,
            num_workers=self.loader.num_workers,
            prefetch_factor=self.loader.prefetch_factor,
            pin_memory=self.loader.pin_memory,
            persistent_workers=self.loader.num_workers > 0,
            worker_init_fn=_leave_signals_to_the_run if self.loader.num_workers else None,
        )

    def train_dataloader(self) -> PlannedLoader:
        """Batches of the training part, by the plan."""
        return self._planned_loader("train")

    def val_dataloader(self) -> PlannedLoader:
        """Batches of the validation part: every example once over all processes."""
        return self._planned_loader("validation")

    def test_dataloader(self) -> PlannedLoader:
        """Batches of the test part: every example once over all processes."""
        return self._planned_loader("test")
