"""Metrics are those of sacreBLEU's own command, and bins hold every sentence once."""

from __future__ import annotations

import random

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from apps.translation.metrics import bleu_by_length, signatures, translation_metrics

REFERENCES = ["The cat sat on the mat .", "Il pleut, il mouille!", "Ist es 5,5 km?", "a", "Where is the old house now?"]
TRANSLATIONS = ["the cat sat on a mat .", "il pleut il mouille !", "Ist es 5,5 km? ", "", "Where is the old house now?"]


def test_metrics_are_sacrebleus_by_default() -> None:
    found = translation_metrics(TRANSLATIONS, REFERENCES)
    streams = (TRANSLATIONS, [REFERENCES])
    assert found["bleu_cased"] == sacrebleu.corpus_bleu(*streams).score
    assert found["bleu_lc"] == sacrebleu.corpus_bleu(*streams, lowercase=True).score
    assert found["chrf"] == sacrebleu.corpus_chrf(*streams).score
    assert 0 < found["bleu_cased"] < found["bleu_lc"] < 100
    assert found["exact_match"] == pytest.approx(2 / 5)  # a space at an end is no difference


def test_signatures_say_how() -> None:
    translation_metrics(TRANSLATIONS, REFERENCES)
    said = signatures()
    assert said["bleu_lc"].startswith("nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:")
    assert said["bleu_cased"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert said["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    edges=st.lists(st.integers(1, 30), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_every_sentence_is_in_the_bin_of_its_length(lengths: list[int], edges: list[int]) -> None:
    texts = ["a b c d"] * len(lengths)
    bins = bleu_by_length(texts, texts, lengths=lengths, edges=edges)
    assert sum(count for _, count, _ in bins) == len(lengths)
    for name, count, bleu in bins:
        low, _, high = name.removeprefix("> ").partition("-")
        first = int(low) + 1 if name.startswith("> ") else int(low)
        last = int(high) if high else 1_000
        # A source without a word stands with the shortest.
        assert count == sum(first <= max(length, 1) <= last for length in lengths)
        assert bleu == pytest.approx(100)


def test_a_bin_is_measured_by_itself() -> None:
    chosen = random.Random(0).choices(range(len(REFERENCES)), k=20)
    translations, references = [TRANSLATIONS[row] for row in chosen], [REFERENCES[row] for row in chosen]
    lengths = [len(reference.split()) for reference in references]
    for name, count, bleu in bleu_by_length(translations, references, lengths=lengths, edges=(3, 5)):
        low, high = {"1-3": (1, 3), "4-5": (4, 5), "> 5": (6, 99)}[name]
        rows = [row for row in range(20) if low <= lengths[row] <= high]
        assert count == len(rows)
        own = sacrebleu.corpus_bleu(
            [translations[row] for row in rows], [[references[row] for row in rows]], lowercase=True
        )
        assert bleu == own.score
