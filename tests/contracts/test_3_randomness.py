"""Contract 3: nothing random is hidden; workers change no weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tests.contracts.case import Case


def test_a_run_repeats_itself_with_any_number_of_workers(
    case: Case, train: Callable[..., object], tmp_path: Path
) -> None:
    weights = []
    for attempt, num_workers in enumerate((0, 0, 2)):
        torch.manual_seed(attempt)  # whatever happened before in this process
        run = case.make(tmp_path, dropout=0.3, num_workers=num_workers)
        train(run, tmp_path / str(attempt))
        weights.append(run.module.state_dict())
    for other in weights[1:]:
        for name, value in weights[0].items():
            assert torch.equal(value, other[name]), name


def test_dropout_differs_between_steps_and_seeds(case: Case, train: Callable[..., object], tmp_path: Path) -> None:
    """Seeding every step by its position must not mean the same masks at every step."""
    from core.training.process.seeding import seed_step

    masks = []
    for seed, epoch, batch, piece in ((7, 0, 0, 0), (7, 0, 1, 0), (7, 1, 0, 0), (7, 0, 0, 1), (8, 0, 0, 0)):
        seed_step(seed, epoch=epoch, batch=batch, piece=piece)
        masks.append(torch.rand(8))
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


def test_a_network_starts_the_same_on_every_device(case: Case, tmp_path: Path) -> None:
    """Lightning has it built on the device of the run, here one that holds shapes alone."""
    run = case.make(tmp_path)
    run.data.prepare_data()
    run.data.setup("fit")
    expected = run.module.build(run.data.preprocessing()).state_dict()
    with torch.device("meta"):
        found = run.module.build(run.data.preprocessing()).state_dict()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
