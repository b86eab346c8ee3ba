"""Subwords against the packages that define them, and BPE-dropout against its definition."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import BPE, UNK, BPEText, Unigram, UnigramText
from data.tokenisation.dropout import DroppedSentences, merged
from tests.data.test_text import LINES, TEXTS, lines_of_text

BPE_TEXT, UNIGRAM_TEXT = TEXTS[:2]
assert isinstance(BPE_TEXT, BPEText)
assert isinstance(UNIGRAM_TEXT, UnigramText)
patient = settings(deadline=None, max_examples=60)
lines = st.lists(lines_of_text, min_size=1, max_size=5)


@patient
@given(text=st.sampled_from([BPE_TEXT, UNIGRAM_TEXT]), lines=lines)
def test_lines_are_split_as_tokenizers_splits_them(text: BPEText | UnigramText, lines: list[str]) -> None:
    """We split word by word and remember; the package splits the whole line."""
    for line, ours in zip(lines, text.encode(lines), strict=True):
        theirs = text.tokeniser.encode(text.normalisation(line)).ids
        assert ours.tolist() == [UNK + number for number in theirs]


@patient
@given(lines=lines, epoch=st.integers(0, 3))
def test_without_dropout_merging_is_that_of_tokenizers(lines: list[str], epoch: int) -> None:
    expected = BPE_TEXT.encode_flat(lines)
    for line in lines:
        for word in BPE_TEXT.normalisation.words(line):
            characters = BPE_TEXT.characters(word)
            pieces = merged(BPE_TEXT, characters, skips=[0] * (len(characters) - 1))
            assert pieces == BPE_TEXT.encode([word])[0].tolist()
    dropped = DroppedSentences(BPE_TEXT, lines, dropout=0.0, seed=1)
    assert dropped.lengths.tolist() == expected.lengths.tolist()
    taken = dropped.take(np.arange(len(lines)), epoch=epoch)
    assert taken.ids.tolist() == expected.ids.tolist()
    assert taken.offsets.tolist() == expected.offsets.tolist()


@patient
@given(
    lines=lines,
    dropout=st.sampled_from([0.05, 0.3, 0.9]),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    data=st.data(),
)
def test_a_split_follows_from_seed_epoch_and_index_alone(
    lines: list[str], dropout: float, seed: int, epoch: int, data: st.DataObject
) -> None:
    """The same alone, in any batch, in any order, after any other, in any worker; and always the same text."""
    dropped = DroppedSentences(BPE_TEXT, lines, dropout=dropout, seed=seed)
    fresh = DroppedSentences(BPE_TEXT, lines, dropout=dropout, seed=seed)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=8)), np.int64)
    whole = dropped.take(np.arange(len(lines)), epoch=epoch)
    some = fresh.take(rows, epoch=epoch)
    assert len(some) == len(rows)
    for place, row in enumerate(rows.tolist()):
        assert some[place].tolist() == whole[row].tolist()
    for row, line in enumerate(lines):
        plain = BPE_TEXT.encode([line])[0]
        if UNK not in plain:
            assert BPE_TEXT.decode(whole[row]) == BPE_TEXT.normalisation(line)
        assert (whole[row] == UNK).sum() == (plain == UNK).sum()


def test_seed_epoch_index_and_stream_each_give_another_split() -> None:
    line = [LINES[1] * 3] * 2

    def split(seed: int, epoch: int, row: int = 0, stream: int = 0) -> tuple[int, ...]:
        sentences = DroppedSentences(BPE_TEXT, line, dropout=0.5, seed=seed, stream=stream)
        return tuple(sentences.take(np.array([row]), epoch=epoch).ids.tolist())

    different = {split(1, 2), split(2, 1), split(1, 1), split(2, 2), split(1, 2, row=1), split(1, 2, stream=1)}
    assert len(different) == 6


def by_definition(pieces: list[int], *, dropout: float, generator: np.random.Generator) -> list[int]:
    """Algorithm 1 of Provilkov et al.: a coin for every possible merge at every step."""
    ranks = BPE_TEXT.ranks
    while True:
        possible = [(*ranks[pair], place) for place, pair in enumerate(pairwise(pieces)) if pair in ranks]
        left = [merge for merge in possible if generator.random() >= dropout]
        if not left:
            return pieces
        _, product, place = min(left)
        pieces = [*pieces[:place], product, *pieces[place + 2 :]]


@pytest.mark.parametrize("dropout", [0.1, 0.6])
def test_splits_are_as_frequent_as_with_a_coin_for_every_merge(dropout: float) -> None:
    word, number = "Mädchen", 20_000
    generator = np.random.default_rng(0)
    characters = BPE_TEXT.characters(word)
    theirs = Counter(tuple(by_definition(characters, dropout=dropout, generator=generator)) for _ in range(number))
    sentences = DroppedSentences(BPE_TEXT, [word] * number, dropout=dropout, seed=0)
    taken = sentences.take(np.arange(number), epoch=0)
    ours = Counter(tuple(taken[index].tolist()) for index in range(number))
    assert len(theirs) > 5
    for split in theirs | ours:
        share = (theirs[split] + ours[split]) / (2 * number)
        # Five standard deviations of the difference of two counts.
        assert abs(theirs[split] - ours[split]) < 5 * (2 * number * share * (1 - share)) ** 0.5 + 1


def test_more_dropout_gives_more_pieces() -> None:
    rows = np.arange(len(LINES))
    totals = [
        len(DroppedSentences(BPE_TEXT, LINES, dropout=dropout, seed=0).take(rows, epoch=0).ids)
        for dropout in (0.0, 0.1, 0.5, 0.999)
    ]
    assert totals == sorted(set(totals))
    characters = sum(len(BPE_TEXT.characters(word)) for line in LINES for word in line.split())
    assert totals[-1] > 0.98 * characters


def test_dropout_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="probability below 1, got 1"):
        DroppedSentences(BPE_TEXT, LINES, dropout=1.0, seed=0)


@pytest.mark.parametrize("config", [BPE(vocabulary_size=100), Unigram(vocabulary_size=75)])
def test_a_vocabulary_has_the_size_asked_for_where_the_text_allows(config: BPE | Unigram) -> None:
    assert config.build(LINES).vocabulary_size == config.vocabulary_size
    assert config.build(["ab ab ab"]).vocabulary_size < config.vocabulary_size


def test_an_unknown_character_is_one_unknown_piece() -> None:
    ids = BPE_TEXT.encode(["€€ ein€"])[0].tolist()
    assert ids.count(UNK) == 3
    assert BPE_TEXT.decode(ids) == "<unk><unk> ein<unk>"
