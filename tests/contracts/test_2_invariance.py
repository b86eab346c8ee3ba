"""Contracts 1 and 2: an example's prediction and gradient are its own, whatever stands beside or behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.batching import Piece
from tests.contracts.case import Case, in_double
from tests.contracts.cases import CASES


def _prepared(case: Case, folder: Path, variant: str, *, part: str = "train") -> tuple[Any, Any]:
    run = case.make(folder, variant=variant)
    run.data.prepare_data()
    run.data.setup("fit")
    run.module.build(run.data.preprocessing())
    run.module.double().train()
    dataset = run.data.dataset(part)
    chosen = np.random.default_rng(1).choice(len(dataset), size=9, replace=False)
    # The first examples are the shortest: without them nothing would be padded.
    chosen = np.union1d(np.array([0, 1]), chosen)
    batch = in_double(dataset.batch(Piece(0, chosen)))
    if part == "train":
        assert len(set(case.lengths(batch).tolist())) > 1, "the batch must be ragged, or this test says nothing"
    return run.module, batch


def _loss_and_gradient(module: Any, batch: Any) -> tuple[float, torch.Tensor]:
    module.zero_grad()
    loss = module.training_loss(batch)
    loss.sum.backward()
    gradients = [
        (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
        for parameter in module.parameters()
    ]
    return loss.sum.detach(), torch.cat(gradients)


def _variants() -> list[Any]:
    return [pytest.param(case, variant, id=f"{case.name}-{variant}") for case in CASES for variant in case.variants]


@pytest.mark.parametrize("junk", [0.0, 1e6, torch.nan, torch.inf])
@pytest.mark.parametrize(("case", "variant"), _variants())
def test_padding_changes_no_loss_and_no_gradient(case: Case, variant: str, junk: float, tmp_path: Path) -> None:
    module, batch = _prepared(case, tmp_path, variant)
    loss, gradient = _loss_and_gradient(module, batch)
    for extra in (0, 5):
        padded_loss, padded_gradient = _loss_and_gradient(module, case.pad(batch, extra, junk))
        torch.testing.assert_close(padded_loss, loss, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(padded_gradient, gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("case", "variant"), _variants())
def test_examples_do_not_see_each_other(case: Case, variant: str, tmp_path: Path) -> None:
    """Losses and gradients of single examples add up to those of their batch, in any order."""
    module, batch = _prepared(case, tmp_path, variant)
    num_examples = len(case.lengths(batch))
    loss, gradient = _loss_and_gradient(module, batch)
    shuffled = case.select(batch, torch.randperm(num_examples, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(_loss_and_gradient(module, shuffled), (loss, gradient), rtol=1e-10, atol=1e-10)
    alone = [_loss_and_gradient(module, case.select(batch, torch.tensor([i]))) for i in range(num_examples)]
    torch.testing.assert_close(sum(one[0] for one in alone), loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sum(one[1] for one in alone), gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("case", "variant"), _variants())
def test_a_filler_example_counts_nowhere(case: Case, variant: str, tmp_path: Path) -> None:
    module, batch = _prepared(case, tmp_path, variant, part="validation")
    half = torch.arange(len(case.lengths(batch))) < 5
    module.eval()
    weighted = batch._replace(weight=half.double())
    real = case.select(batch, half.nonzero().squeeze(1))
    expected, actual = module.evaluation_values(real), module.evaluation_values(weighted)
    assert expected.keys() == actual.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-9, atol=1e-9, msg=name, check_dtype=False)
