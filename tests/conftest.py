"""What all tests share."""

from __future__ import annotations

import logging
import os

import jaxtyping
import pytest
import torch

# Every shape annotation of core.nn is checked at run time. Before its first import: the hook rewrites modules as they load.
jaxtyping.install_import_hook("core.nn", "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """One thread a process: the shapes are tiny, and threads that wait for each other take longer than the work."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
