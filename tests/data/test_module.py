"""The loaders that every DataModule shares: batches by the plan, and how long they were waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from data.batching import Piece
from data.module import LoaderConfig, PlannedDataModule


class Numbers:
    """Twenty examples whose batch is the piece itself."""

    def __init__(self, *, lengths: npt.NDArray[np.int64] | None = None, seconds: float = 0.0) -> None:
        self.lengths = lengths
        self.seconds = seconds

    def __len__(self) -> int:
        return 20

    def batch(self, piece: Piece) -> Piece:
        time.sleep(self.seconds)
        return piece


class NumbersData(PlannedDataModule):
    def __init__(self, numbers: Numbers | None = None, **settings: Any) -> None:
        super().__init__(**{"batch_size": 6, "seed": 3, "loader": LoaderConfig(), **settings})
        self.numbers = numbers or Numbers()

    def dataset(self, part: str) -> Numbers:
        return self.numbers

    def preprocessing(self) -> dict[str, Any]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {}


def dealt_by(loader: Any) -> list[int]:
    return [index for piece in loader for index in piece.indices.tolist()]


def indices(loader: Any) -> list[list[int]]:
    return [piece.indices.tolist() for piece in loader]


def test_evaluation_is_in_the_datas_own_order_and_training_is_not() -> None:
    data = NumbersData()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert dealt_by(loader) == list(range(20))
        assert len(loader) == 4
    trained = dealt_by(data.train_dataloader())
    assert trained != sorted(trained) == list(range(20))


def test_training_is_the_plan_of_its_epoch() -> None:
    data = NumbersData()
    plan, loader = data.plan("train"), data.train_dataloader()
    for epoch in (0, 1, 5):
        loader.batch_sampler.set_epoch(epoch)
        assert indices(loader) == [batch.tolist() for batch in plan.batches(epoch)]


def test_a_resumed_epoch_begins_where_it_stopped_and_the_next_one_is_whole() -> None:
    data = NumbersData()
    whole = [batch.tolist() for batch in data.plan("train").batches(2)]
    data.start_at(2, 3)
    loader = data.train_dataloader()
    assert indices(loader) == whole[3:]
    loader.batch_sampler.set_epoch(3)
    assert len(indices(loader)) == 4
    assert len(indices(data.val_dataloader())) == 4


@pytest.mark.parametrize("part", ["train", "test"])
def test_processes_and_accumulation_share_each_global_batch(part: str) -> None:
    """In evaluation nothing is accumulated; a process with nothing left takes an example of weight 0."""
    data = NumbersData()
    dealt = []
    for rank in range(3):
        data.trainer = SimpleNamespace(world_size=3, global_rank=rank, accumulate_grad_batches=2)  # type: ignore[assignment]
        pieces = list(data.train_dataloader() if part == "train" else data.test_dataloader())
        assert len(pieces) == (8 if part == "train" else 4)
        dealt += [index for piece in pieces if piece.weight for index in piece.indices.tolist()]
        assert all(len(piece.indices) == 1 for piece in pieces if not piece.weight)
    assert sorted(dealt) == list(range(20))


def test_a_token_budget_takes_the_place_of_a_number_of_examples() -> None:
    lengths = np.arange(1, 21)
    data = NumbersData(Numbers(lengths=lengths), batch_size=None, token_budget=40)
    for batch in indices(data.train_dataloader()):
        assert len(batch) * lengths[batch].max() <= 40


def test_workers_deal_the_same_batches() -> None:
    plain = NumbersData()
    working = NumbersData(loader=LoaderConfig(num_workers=2, prefetch_factor=2))
    loader = working.train_dataloader()
    assert loader.persistent_workers
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)
        assert indices(loader) == [batch.tolist() for batch in plain.plan("train").batches(epoch)]


def test_the_loader_counts_the_seconds_waited_for_it_and_no_others() -> None:
    loader = NumbersData(Numbers(seconds=0.02)).train_dataloader()
    assert loader.wait_seconds == 0
    for _ in loader:
        time.sleep(0.1)
    # Four batches; the upper bound is far below the time spent between them.
    assert 0.08 <= loader.wait_seconds < 0.3
    before = loader.wait_seconds
    list(loader)
    assert loader.wait_seconds >= before + 0.08


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoaderConfig(num_workers=-1), r"data\.loader\.num_workers cannot be negative, got -1"),
        (lambda: LoaderConfig(prefetch_factor=4), r"prefetch_factor is 4, but without workers"),
        (lambda: NumbersData(batch_size=0), r"data\.batch_size must be at least 1, got 0"),
        (lambda: NumbersData(token_budget=9).plan("train"), "either batch_size or token_budget"),
    ],
)
def test_settings_that_contradict_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
