"""What the processes of a run know together: every value, by rank, on every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch.utils._pytree import tree_leaves, tree_structure

from core.training.process.group import gather_over_processes, leave_process_group, sum_over_processes

NUM_PROCESSES = 2


def _values(rank: int) -> list[Any]:
    """What is gathered in a run: counts, states of other streams and another number of them, and nothing at all."""
    generator = torch.Generator().manual_seed(rank)
    states = {stream: torch.randn(2, 1, rank + 3, generator=generator) for stream in range(rank, 3 * rank)}
    return [
        rank,
        {"loss": (0.1 * rank, 7), "name": "naïve"} if rank else None,
        (rank > 0, states),
        torch.randn(rank + 1, generator=generator, dtype=torch.float64),
        torch.arange(3) > rank,
        torch.tensor([torch.nan, -torch.inf, -0.0], dtype=torch.bfloat16),
    ]


def _assert_identical(got: Any, expected: Any) -> None:
    """Bit for bit, type for type."""
    assert tree_structure(got) == tree_structure(expected)
    for ours, theirs in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        assert type(ours) is type(theirs)
        if isinstance(theirs, torch.Tensor):
            assert (ours.dtype, ours.shape, ours.device) == (theirs.dtype, theirs.shape, torch.device("cpu"))
            assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8)), "NaN and -0.0 too"
        else:
            assert ours == theirs


def _threads_of_the_group() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name or "tcpstore" in name]


def gather_in_parallel(rank: int, folder: str) -> None:
    """One process of two: gathers one value after the other, and then changes its own."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_PROCESSES
    )
    own = _values(rank)
    gathered = [gather_over_processes(value) for value in own]
    own[3].fill_(torch.nan)
    counted = torch.tensor([rank + 0.5, 2.0], dtype=torch.float64)
    gathered += [sum_over_processes(counted), counted]
    torch.save(gathered, f"{folder}/{rank}.pt")
    assert _threads_of_the_group()
    leave_process_group()
    assert not _threads_of_the_group()


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_every_process_has_the_values_of_all_by_rank(tmp_path: Path) -> None:
    """Also where a process holds nothing, or tensors of other shapes; and nobody's own tensor is handed out."""
    torch.multiprocessing.spawn(gather_in_parallel, args=(str(tmp_path),), nprocs=NUM_PROCESSES)
    expected = [list(values) for values in zip(*(_values(rank) for rank in range(NUM_PROCESSES)), strict=True)]
    for rank in range(NUM_PROCESSES):
        *gathered, total, own = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        _assert_identical(gathered, expected)
        assert total.tolist() == [2.0, 4.0]
        assert own.tolist() == [rank + 0.5, 2.0], "what a process has counted itself stays as it is"


@pytest.mark.parametrize("value", _values(1))
def test_a_process_alone_has_its_own_value(value: Any) -> None:
    """Without a process group, as in most runs, nothing is copied and nothing is started."""
    assert not torch.distributed.is_initialized()
    (got,) = gather_over_processes(value)
    assert got is value
