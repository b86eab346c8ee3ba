"""What all tests share."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator

import jaxtyping
import pytest
import torch

import tests.shape_checks  # noqa: F401 - the hook asks for it by name
from core.training.process import signals

# Every shape annotation of core.nn is checked at run time. Before its first import: the hook rewrites modules as they load.
jaxtyping.install_import_hook("core.nn", "tests.shape_checks.checked")


def pytest_configure(config: pytest.Config) -> None:
    """One thread a process: the shapes are tiny, and threads that wait for each other take longer than the work."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _no_process_group_left_behind() -> Iterator[None]:
    """A DDP trainer leaves its ranks in the environment; a process started later would wait for a partner nobody starts."""
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK")
    for name in names:  # what a fixture of a whole module has left
        os.environ.pop(name, None)
    yield
    for name in names:
        os.environ.pop(name, None)


@pytest.fixture
def catching() -> Iterator[None]:
    """This process catches signals as a command of ours does; afterwards it is as it was."""
    handlers = {number: signal.getsignal(number) for number in (*signals.CAUGHT, signal.SIGINT)}
    signals.catch_signals()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signals._received.__init__()  # type: ignore[misc]


@pytest.fixture
def forget() -> Callable[[], None]:
    """Forget the signal that this process was sent, as the next process would not know of it."""

    def _forget() -> None:
        signals._received.signal_name = None

    return _forget
