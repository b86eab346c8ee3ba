"""English-French sentence pairs from a grammar: the embedded set `demo/clauses`, for translation.

A sentence determines its translation and the translation the sentence, so that a network can be right about all of
them, and what it gets wrong can be counted by phenomenon. `data/demo/README.md` describes the set.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from data.demo.clauses_sentences import Pair, SentenceMaker

VERSION = 1
"""Raised with every change of the pairs, so that no cache serves those of before."""

NUM_TRAIN = 22_000
NUM_VALIDATION = 500
NUM_TEST = 500
MAX_WORDS = 12
"""Most words of an English sentence."""
_SEED = 0


def generate() -> dict[str, list[Pair]]:
    """The pairs of `train`, `validation` and `test`, the same in every process; no sentence occurs twice in them."""
    maker = SentenceMaker(random.Random(_SEED))
    pairs: dict[str, Pair] = {}
    while len(pairs) < NUM_TRAIN + NUM_VALIDATION + NUM_TEST:
        pair = maker.draw()
        if len(pair.en.split()) > MAX_WORDS:
            continue
        known = pairs.setdefault(pair.en, pair)
        assert known.fr == pair.fr, (known, pair)
    # By its own hash a pair finds its part wherever it stands in the order of drawing.
    held_out = sorted(pairs.values(), key=_hash)[: NUM_VALIDATION + NUM_TEST]
    validation, test = held_out[:NUM_VALIDATION], held_out[NUM_VALIDATION:]
    held = set(held_out)
    return {"train": [pair for pair in pairs.values() if pair not in held], "validation": validation, "test": test}


def _hash(pair: Pair) -> bytes:
    return hashlib.sha256(pair.en.encode()).digest()


def write(folder: Path) -> None:
    """Writes train.parquet, validation.parquet and test.parquet, with the columns en, fr and phenomena."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part, pairs in generate().items():
        columns = {name: [getattr(pair, name) for pair in pairs] for name in Pair._fields}
        pq.write_table(pa.table(columns), folder / f"{part}.parquet")
