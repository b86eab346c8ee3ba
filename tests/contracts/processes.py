"""Several processes of one training, forked from the test: they have imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

PATIENCE = 120.0


def in_processes(number: int, function: Callable[[], None]) -> list[int | None]:
    """Call `function` in `number` processes that a trainer with as many devices takes for its own; their exit statuses.

    Raises:
        AssertionError: a process has hung.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run, args=(rank, port, function)) for rank in range(number)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(PATIENCE)
        assert not any(process.is_alive() for process in processes), f"processes still run after {PATIENCE:g} s"
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    return [process.exitcode for process in processes]


def _run(rank: int, port: int, function: Callable[[], None]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank))
    function()
