"""Embedded data sets: small, real or generated, read through the same code as real data."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path

GENERATED = {
    "clauses": "data.demo.clauses",
    "motions": "data.demo.motions",
    "scenes": "data.demo.scenes",
}
"""Generated sets: name -> module with `VERSION` and `write(folder)`, which fills an empty folder."""


def write_generated(name: str, cache: Path) -> Path:
    """The folder with a generated set; it is written at the first call, whole or not at all.

    Processes that write at once do not disturb each other: each fills a folder of its own, the first to finish gives it
    the set's name, and the others take that one.

    Args:
        name: one of `GENERATED`.
        cache: folder under which it is kept, in `demo/<name>-<version>`.

    Raises:
        ValueError: The set cannot be written there.
    """
    module = import_module(GENERATED[name])
    folder = cache / "demo" / f"{name}-{module.VERSION}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            module.write(unfinished)
            # mkdtemp keeps others out; a cache may be shared.
            unfinished.chmod(0o755)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        if folder.is_dir():
            return folder
        raise ValueError(
            f"The generated set demo/{name} cannot be written to {folder} ({error.strerror or error}). Name another cache "
            "folder by UNROLL_CACHE."
        ) from error
    return folder
