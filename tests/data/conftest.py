"""A small parallel corpus in files, and the data of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.parallel.reading import TextFiles
from data.text import BPE
from data.translation import TranslationData

WORDS = {
    "en": ["a", "man", "dog", "sees", "runs", "the", "red", "7", "big", "and", "house", "with", "."],
    "de": ["ein", "Mann", "Hund", "sieht", "läuft", "das", "rot", "7"],
}


def write(folder: Path, part: str, number: int, *, seed: int = 0) -> list[tuple[str, str]]:
    generator = np.random.default_rng((seed, number))
    pairs = []
    for _ in range(number):
        size = generator.integers(1, 9)
        pairs.append(
            (" ".join(generator.choice(WORDS["en"], size)), " ".join(generator.choice(WORDS["de"], size + 1)) + " ")
        )
    save(folder, part, pairs)
    return pairs


def save(folder: Path, part: str, pairs: list[tuple[str, str]]) -> None:
    for place, language in enumerate(("en", "de")):
        (folder / f"{part}.{language}").write_text("".join(f"{pair[place]}\n" for pair in pairs), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, number in (("train", 60), ("val", 11), ("test", 7)):
        write(tmp_path, part, number)
    return tmp_path


def data_of(folder: Path, **settings: Any) -> TranslationData:
    if "token_budget" not in settings:
        settings = {"batch_size": 16, **settings}
    return TranslationData(
        TextFiles(path=str(folder)),
        **{
            "source": "en",
            "target": "de",
            "text": BPE(vocabulary_size=60),
            "cache_dir": str(folder / "cache"),
            "seed": 3,
            **settings,
        },
    )


def ready(folder: Path, stage: str = "fit", **settings: Any) -> TranslationData:
    data = data_of(folder, **settings)
    data.prepare_data()
    data.setup(stage)
    return data
