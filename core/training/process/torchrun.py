"""Every start of torchrun's processes meets in a store of its own.

torchrun keeps one store over all its restarts, and processes tell each other there where they listen. After a restart the
first to arrive would read where a process that has died was listening, and fail to reach it. So the processes agree on a new
store first, in words that only those alive now can have said.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore

PATIENCE = timedelta(minutes=30)
"""How long processes may start apart, as long as torch itself waits for them."""


def meet_in_a_new_store() -> Store | None:
    """Let `MASTER_PORT` be that of a store which no earlier start has used. Nothing is done where torchrun is not at work.

    Returns:
        On the first process the store, to be kept until the process group is made; None on the others.

    Raises:
        RuntimeError: as `agree`.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or processes == 1:
        return None
    address, rank = os.environ["MASTER_ADDR"], int(os.environ["RANK"])
    agents = TCPStore(address, int(os.environ["MASTER_PORT"]), is_master=False, timeout=PATIENCE)
    ours = None
    if rank == 0:
        # Several stores may share a port in one process: what torch makes later at this address is this one.
        ours = TCPStore(address, 0, is_master=True, wait_for_workers=False, multi_tenant=True, timeout=PATIENCE)
    port = agree(str(ours.port) if ours else "", agents, rank=rank, processes=processes)
    os.environ.update(MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="False")
    return ours


def agree(word: str, store: Store, *, rank: int, processes: int) -> str:
    """The word of the first process, on all processes of this start.

    The store may hold what earlier starts have said. So each process gives itself a name that was never used, the first answers
    each name that it reads, the names of the dead among them, and goes on when all others have confirmed its own.

    Raises:
        RuntimeError: a process did not come within `PATIENCE`.
    """
    name = uuid.uuid4().hex
    if rank > 0:
        store.set(f"unroll/name/{rank}", name)
        first, _, word = store.get(f"unroll/answer/{name}").decode().partition(" ")
        store.set(f"unroll/confirmed/{first}/{rank}", "")
        return word
    answered: set[str] = set()
    deadline = time.monotonic() + PATIENCE.total_seconds()
    for other in range(1, processes):
        while not store.check([f"unroll/confirmed/{name}/{other}"]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"process {other} of {processes} has not come within {PATIENCE}: look at its log.")
            if store.check([f"unroll/name/{other}"]):
                theirs = store.get(f"unroll/name/{other}").decode()
                if theirs not in answered:
                    store.set(f"unroll/answer/{theirs}", f"{name} {word}")
                    answered.add(theirs)
            time.sleep(0.02)
    return word
