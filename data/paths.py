"""Where data is read from and where it is cached."""

from __future__ import annotations

import os
from pathlib import Path

from data.demo import GENERATED, write_generated

DATA_VARIABLE = "UNROLL_DATA"
CACHE_VARIABLE = "UNROLL_CACHE"
EMBEDDED = Path(__file__).parent


def find_data(path: str | Path) -> Path:
    """The file or folder that a config means.

    A relative path is looked up in the working directory, in the folder that `UNROLL_DATA` names, and among the
    embedded data sets (`demo/...`), in that order. An embedded set that is generated (`demo/clauses`) is written to the
    cache folder first, once.

    Raises:
        ValueError: naming every place that was looked at.
    """
    path = Path(path).expanduser()
    places = [Path.cwd(), EMBEDDED]
    if os.environ.get(DATA_VARIABLE):
        places.insert(1, Path(os.environ[DATA_VARIABLE]).expanduser())
    candidates = [path] if path.is_absolute() else [place / path for place in places]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    if len(path.parts) > 1 and path.parts[0] == "demo" and path.parts[1] in GENERATED:
        candidates.append(write_generated(path.parts[1], cache_folder()).joinpath(*path.parts[2:]))
        if candidates[-1].exists():
            return candidates[-1]
    hint = "" if DATA_VARIABLE in os.environ else f" Set {DATA_VARIABLE} to the folder with your data sets."
    there = sorted({found.name for candidate in candidates if candidate.parent.is_dir() for found in _files(candidate)})
    near = f" Files beside it: {', '.join(there[:8])}." if there else ""
    generated = (
        f" Generated sets: {', '.join(f'demo/{name}' for name in GENERATED)}." if path.parts[:1] == ("demo",) else ""
    )
    raise ValueError(
        f"There is no file or folder '{path}'. Looked at: {', '.join(map(str, candidates))}.{hint}{generated}{near}"
    )


def _files(candidate: Path) -> list[Path]:
    return [found for found in candidate.parent.iterdir() if found.suffix == candidate.suffix and found.is_file()]


def cache_folder() -> Path:
    """Where prepared data is kept between runs: `UNROLL_CACHE`, or `unroll` in the user's cache folder.

    Raises:
        ValueError: where it cannot be made.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named).expanduser() if named else None
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unroll"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Name another one by {CACHE_VARIABLE}."
        ) from error
    return folder
