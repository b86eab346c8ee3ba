"""Where a record comes from: the commit and the machine. Needs the standard library alone."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """The commit of this checkout, and whether it has been changed since.

    Raises:
        OSError: there is no git.
        subprocess.CalledProcessError: this is no checkout.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    # Results themselves may differ: they are what is being made.
    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":!results", ":!benchmarks/results", ":!README.md"
    )
    return git("rev-parse", "HEAD") + ("-changed" if changed else "")


def machine() -> str:
    """Number and model of the CPUs, and the system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.machine()}"
