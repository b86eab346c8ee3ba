"""The allocator setting is taken, and what is given back is gone from the process."""

import os
import platform
from pathlib import Path

import pytest
import torch

from core.training.process.allocator import give_back_freed_memory, keep_freed_memory

MEGABYTE = 2**20


def test_it_is_done_where_glibc_is() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_holes_between_buffers_in_use_are_given_back() -> None:
    """200 MB in small buffers, of which every tenth stays in use: the allocator by itself keeps them all."""
    keep_freed_memory()
    buffers = [torch.ones(8192) for _ in range(200 * MEGABYTE // (4 * 8192))]
    kept = buffers[::10]
    del buffers
    before = _resident()
    assert give_back_freed_memory()
    assert before - _resident() > 100 * MEGABYTE
    assert all(bool((buffer == 1).all()) for buffer in kept)
