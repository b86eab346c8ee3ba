"""Pairs of sentences in batches, and what a run keeps of its vocabularies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import Piece
from data.module import LoaderConfig
from data.parallel.batches import PairDataset
from data.parallel.reading import TextFiles
from data.paths import find_data
from data.text import BOS, BPE, EOS, PAD, TokenArrays, Words
from data.translation import TranslationBatch, TranslationData
from tests.data.conftest import data_of, ready, save, write

# Batches --------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(*[st.lists(st.integers(4, 60), max_size=7)] * 2), min_size=1, max_size=9), data=st.data()
)
def test_a_batch_is_its_pairs_framed_and_padded(pairs: list[tuple[list[int], list[int]]], data: st.DataObject) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, len(pairs) - 1), min_size=1)))
    sides = [TokenArrays.of([pair[place] for pair in pairs]) for place in (0, 1)]
    dataset = PairDataset(*sides, rows=np.array(kept))
    assert dataset.lengths.tolist() == [[len(pairs[row][0]) + 1, len(pairs[row][1]) + 1] for row in kept]
    indices = data.draw(st.lists(st.integers(0, len(kept) - 1), min_size=1, max_size=6))
    weight = data.draw(st.sampled_from([0.0, 1.0]))
    batch = dataset.batch(Piece(0, np.array(indices), weight=weight))
    for place, number in enumerate(indices):
        source, target = pairs[kept[number]]
        for tokens, lengths, expected in (
            (batch.source, batch.source_lengths, [*source, EOS]),
            (batch.target, batch.target_lengths, [BOS, *target]),
            (batch.labels, batch.target_lengths, [*target, EOS]),
        ):
            size = int(lengths[place])
            assert tokens[place, :size].tolist() == expected
            assert (tokens[place, size:] == PAD).all()
            assert tokens.shape == (len(indices), int(lengths.max()))
        assert batch.index[place] == kept[number]
    assert batch.weight.tolist() == [weight] * len(indices)
    assert {part.dtype for part in batch[:-1]} == {torch.int64}
    assert batch.weight.dtype == torch.float32


def test_the_loaders_deal_every_pair_and_its_text_comes_back(folder: Path) -> None:
    data = ready(folder)
    data.setup("test")
    for part, loader in (
        ("train", data.train_dataloader()),
        ("validation", data.val_dataloader()),
        ("test", data.test_dataloader()),
    ):
        seen = {}
        for batch in loader:
            assert isinstance(batch, TranslationBatch)
            for row in range(len(batch.index)):
                source = batch.source[row, : batch.source_lengths[row]]
                target = batch.labels[row, : batch.target_lengths[row]]
                seen[int(batch.index[row])] = (data.source_text.decode(source), data.target_text.decode(target))
        assert sorted(seen) == list(range(len(data.references(part))))
        for row, (source_text, target_text) in seen.items():
            assert source_text == data.sources(part)[row].strip()
            assert target_text == data.references(part)[row].strip()
    assert data.references("test")[0].endswith(" ")  # as read


@pytest.mark.parametrize(
    "text", [BPE(vocabulary_size=60), BPE(vocabulary_size=60, dropout=0.3)], ids=["plain", "dropout"]
)
def test_batches_follow_from_seed_and_epoch_in_any_number_of_workers(folder: Path, text: BPE) -> None:
    def epoch(number: int, num_workers: int) -> list[list[Any]]:
        data = ready(folder, text=text, loader=LoaderConfig(num_workers=num_workers))
        loader = data.train_dataloader()
        for earlier in range(number):  # the same process, or worker, has dealt other epochs before
            loader.batch_sampler.set_epoch(earlier)  # type: ignore[union-attr]
            list(loader)
        loader.batch_sampler.set_epoch(number)  # type: ignore[union-attr]
        return [[part.tolist() for part in batch] for batch in loader]

    assert epoch(0, 0) == epoch(0, 2)
    assert epoch(2, 0) == epoch(2, 2)
    assert epoch(2, 0) != epoch(1, 0)


def test_dropout_splits_training_text_alone(folder: Path) -> None:
    def total(part: str, number: int, **settings: Any) -> int:
        data = ready(folder, text=BPE(vocabulary_size=60, **settings))
        loader = data.train_dataloader() if part == "train" else data.val_dataloader()
        loader.batch_sampler.set_epoch(number)  # type: ignore[union-attr]
        return sum(int(batch.source_lengths.sum() + batch.target_lengths.sum()) for batch in loader)

    plain = total("train", 0)
    assert plain < total("train", 0, dropout=0.3) != total("train", 1, dropout=0.3)
    assert total("validation", 0) == total("validation", 0, dropout=0.3) == total("validation", 1, dropout=0.3)


@pytest.mark.parametrize("size", [{"batch_size": 16}, {"token_budget": 200}])
def test_batches_hold_neighbours_in_length_as_dropout_splits_them(folder: Path, size: dict[str, int]) -> None:
    write(folder, "train", 2_000)
    data = data_of(folder, text=BPE(vocabulary_size=60, dropout=0.3), **size)
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        sides = [side for batch in loader for side in ((batch.source, batch.source_lengths), batch[2:5:2])]
        waste = 1 - sum(int(lengths.sum()) for _, lengths in sides) / sum(side.numel() for side, _ in sides)
        assert waste == pytest.approx(data.plan("train").padding_waste(epoch))
        assert waste < 0.14  # 0.3 where they are planned by their lengths without dropout


# What is left out -----------------------------------------------------------------------------------------------------


def test_long_and_uneven_pairs_are_left_out_of_training_alone_and_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("a man", "ein Mann"), ("a", "ein " * 9), ("a " * 5, "ein"), ("dog", "Hund")]
    for part in ("train", "val"):
        save(folder, part, pairs)
    data = ready(folder, text=Words(min_frequency=1), max_length=6, max_length_ratio=3.0)
    assert [row for batch in data.train_dataloader() for row in batch.index.sort()[0].tolist()] == [0, 3]
    assert [row for batch in data.val_dataloader() for row in batch.index.tolist()] == [0, 1, 2, 3]
    said = capsys.readouterr().err
    assert said.count("of 4 training pairs, left out are 1 longer than data.max_length=6 tokens and 1 beyond") == 1
    save(folder, "train", [("a a", "b b")] * 4)
    with pytest.raises(ValueError, match=r"left out are 4 longer than .*=1 tokens\. No pair to train on is left"):
        ready(folder, text=Words(min_frequency=1), max_length=1)


def test_empty_sides_are_an_error_or_dropped_from_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [("a", "b"), ("  ", "c"), ("d", ""), ("e", "f")]
    save(folder, "train", pairs)
    with pytest.raises(
        ValueError, match=r"train: 2 of 4 pairs have an empty side: .*lines 2 and 3\. .*data\.empty: drop"
    ):
        ready(folder)
    save(folder, "val", pairs)
    data = ready(folder, text=Words(min_frequency=1), empty="drop")
    assert [row for batch in data.train_dataloader() for row in batch.index.sort()[0].tolist()] == [0, 3]
    (batch,) = data.val_dataloader()
    assert batch.source_lengths.tolist() == [2, 1, 2, 2]
    said = capsys.readouterr().err
    assert "train: 2 of 4 pairs have an empty side" in said
    assert "Left out." in said
    assert "lines 2 and 3. Kept." in said


def test_an_evaluation_sentence_beyond_the_token_budget_is_evaluated(folder: Path) -> None:
    write(folder, "val", 5)
    with (folder / "val.en").open("a") as file:
        file.write("dog " * 80 + "\n")
    with (folder / "val.de").open("a") as file:
        file.write("Hund " * 80 + "\n")
    data = ready(folder, token_budget=40, max_length=20)
    rows = [row for batch in data.val_dataloader() for row in batch.index.tolist()]
    assert sorted(rows) == list(range(6))
    for batch in data.train_dataloader():
        assert len(batch.index) * max(batch.source.shape[1], batch.target.shape[1]) <= 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "en"}, r"data\.source and data\.target are both 'en'"),
        ({"token_budget": 90, "batch_size": 4}, r"either data\.batch_size .* or data\.token_budget .*, got 4 and 90"),
        ({"batch_size": None}, r"either data\.batch_size .* got None and None"),
        ({"batch_size": 0}, r"data\.batch_size must be at least 1, got 0"),
        ({"max_length": 0}, r"data\.max_length must be at least 1 token, got 0"),
        ({"max_length_ratio": 0.5}, r"data\.max_length_ratio must be at least 1, .* got 0.5"),
        ({"token_budget": 100}, r"data\.token_budget is 100, but .* data\.max_length=100 tokens and one for its end"),
        ({"target_text": Words()}, r"data\.target_text is given, but .* Set shared_vocabulary: false"),
        ({"empty": "keep"}, r"data\.empty is 'keep'\. Known: error, drop"),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_of(tmp_path, **change)


# Real data ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def multi30k(tmp_path_factory: pytest.TempPathFactory) -> Any:
    try:
        find_data("multi30k")
    except ValueError:
        pytest.skip("multi30k is not in UNROLL_DATA")
    cache = str(tmp_path_factory.mktemp("cache"))
    corpus = TextFiles(path="multi30k", test="test_2016_flickr")

    def make(**settings: Any) -> TranslationData:
        data = TranslationData(corpus, source="en", target="de", cache_dir=cache, **settings)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {"token_budget": 4096},
        {"batch_size": 80},
        {"token_budget": 4096, "text": BPE(vocabulary_size=8000, dropout=0.1)},
    ],
    ids=["budget", "count", "dropout"],
)
def test_multi30k_wastes_little_on_padding(multi30k: Any, settings: dict[str, Any]) -> None:
    assert multi30k(**settings).plan("train").padding_waste() < 0.08


def test_multi30k_begins_at_once_with_a_vocabulary_from_the_cache(multi30k: Any) -> None:
    multi30k(token_budget=4096)
    start = time.perf_counter()
    next(iter(multi30k(token_budget=4096).train_dataloader()))
    assert time.perf_counter() - start < 10
