"""The allocator setting is taken, and changes no result."""

import platform

from core.training.process.allocator import keep_freed_memory


def test_it_is_done_where_glibc_is() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
