"""Processes that torchrun has started again meet each other, and nobody who has died."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch._C._distributed_c10d import HashStore, TCPStore

from core.training.process.torchrun import agree, meet_in_a_new_store

ROOT = Path(__file__).resolve().parents[4]
NUM_PROCESSES = 3

PROCESS = """
import sys, time
import torch.distributed
from core.training.process.torchrun import meet_in_a_new_store

store = meet_in_a_new_store()
torch.distributed.init_process_group("gloo")
met = torch.distributed.distributed_c10d._get_default_store()
found = "a store with a past" if met.check(["said"]) else "a new store"
torch.distributed.barrier()
met.set("said", "by somebody")
print(found, flush=True)
if sys.argv[1] == "die":
    time.sleep(600)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("last", range(NUM_PROCESSES))
def test_the_word_is_that_of_the_first_process_of_this_start(last: int) -> None:
    """Whoever comes last, in a store that is full of what other starts have said."""
    store = HashStore()

    def come(start: int, rank: int) -> str:
        time.sleep(0.3 if rank == last else 0.0)
        return agree(f"word {start}" if rank == 0 else "", store, rank=rank, processes=NUM_PROCESSES)

    for start in range(3):
        with ThreadPoolExecutor(NUM_PROCESSES) as pool:
            words = list(pool.map(come, [start] * NUM_PROCESSES, range(NUM_PROCESSES)))
        assert words == [f"word {start}"] * NUM_PROCESSES


def test_without_torchrun_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert meet_in_a_new_store() is None
    assert "MASTER_PORT" not in os.environ


def _start(port: int, rank: int, then: str) -> subprocess.Popen[str]:
    """As torchrun does, which keeps its store from start to start."""
    environment = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, then], cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )  # fmt: skip


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_second_start_does_not_ask_for_the_dead() -> None:
    """The first to arrive would otherwise read where its peer of the first start was listening, and may call there."""
    agents = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    first = [_start(agents.port, rank, "die") for rank in range(2)]
    for process in first:
        assert process.stdout is not None
        assert process.stdout.readline() == "a new store\n"
    for process in first:
        process.kill()
        process.communicate()
    second = [_start(agents.port, rank, "end") for rank in range(2)]
    for process in second:
        assert process.communicate()[0] == "a new store\n"
        assert process.returncode == 0
